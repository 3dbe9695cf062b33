BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE alerts (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	id TEXT NOT NULL, 
	address TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	title TEXT NOT NULL, 
	body TEXT NOT NULL, 
	severity TEXT NOT NULL, 
	made_at TEXT NOT NULL
);
INSERT INTO "alerts" VALUES(1,'alr_1','0f','Holdfast','962303: logged out','The session is logged out.','critical','2026-11-03T10:00:00.000Z');
CREATE TABLE credentials (
	company_id TEXT NOT NULL, 
	creds TEXT NOT NULL, 
	paired BOOLEAN NOT NULL, 
	updated_at TEXT NOT NULL, 
	PRIMARY KEY (company_id)
);
INSERT INTO "credentials" VALUES('962302','{"me":{"id":"962302:1@s.whatsapp.net"},"account":{}}',1,'2026-11-02T10:00:00.000Z');
CREATE TABLE decrypted (
	company_id TEXT NOT NULL, 
	ciphertext_sha256 TEXT NOT NULL, 
	plaintext BLOB NOT NULL, 
	stored_at TEXT NOT NULL, 
	PRIMARY KEY (company_id, ciphertext_sha256)
)
 WITHOUT ROWID

;
INSERT INTO "decrypted" VALUES('962302','abababababababababababababababababababababababababababababababab',X'000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F202122232425262728292A2B2C2D2E2F303132333435363738393A3B3C3D3E3F','2026-11-02T10:00:00.000Z');
CREATE TABLE inbox (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	id TEXT NOT NULL, 
	company_id TEXT NOT NULL, 
	chat TEXT NOT NULL, 
	sender TEXT NOT NULL, 
	whatsapp_id TEXT NOT NULL, 
	type TEXT NOT NULL, 
	text TEXT, 
	from_me BOOLEAN NOT NULL, 
	push_name TEXT, 
	sent_at TEXT NOT NULL, 
	stored_at TEXT NOT NULL, 
	UNIQUE (id)
);
INSERT INTO "inbox" VALUES(1,'in_1','962302','962777@s.whatsapp.net','962777@s.whatsapp.net','ABCD1','text','Hallo, wie gehts?',0,'Léa','2026-11-02T10:00:00.000Z','2026-11-02T10:00:00.000Z');
INSERT INTO "inbox" VALUES(2,'in_2','962302','962888@s.whatsapp.net','962888@s.whatsapp.net','ABCD2','text',NULL,1,NULL,'2026-11-03T10:00:00.000Z','2026-11-03T10:00:00.000Z');
CREATE TABLE leases (
	company_id TEXT NOT NULL, 
	node TEXT NOT NULL, 
	holder TEXT NOT NULL, 
	epoch BIGINT NOT NULL, 
	expires_at DATETIME NOT NULL, 
	PRIMARY KEY (company_id)
);
CREATE TABLE notes (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "notes" VALUES('alive','2026-11-04T10:00:00.000Z');
CREATE TABLE outbox (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	id TEXT NOT NULL, 
	company_id TEXT NOT NULL, 
	whatsapp_id TEXT NOT NULL, 
	chat TEXT NOT NULL, 
	recipient TEXT NOT NULL, 
	content TEXT NOT NULL, 
	state TEXT NOT NULL, 
	attempts INTEGER DEFAULT 0 NOT NULL, 
	accepted_at TEXT NOT NULL, 
	sent_at TEXT, 
	delivered_at TEXT, 
	read_at TEXT, 
	played_at TEXT, 
	expires_at TEXT, 
	error_code TEXT, 
	error TEXT, 
	idempotency_key TEXT, 
	request_hash TEXT, 
	CONSTRAINT outbox_state CHECK (state IN ('queued','sending','sent','delivered','read','played','failed','expired','cancelled')), 
	UNIQUE (id), 
	FOREIGN KEY(company_id) REFERENCES sessions (company_id)
);
INSERT INTO "outbox" VALUES(1,'msg_000000000000000000000001','962302','3EB0000000000000000001','962777@s.whatsapp.net','962777','{"text": "größer 1 🙂"}','delivered',1,'2026-11-02T10:00:00.000Z','2026-11-02T10:00:00.000Z','2026-11-03T10:00:00.000Z',NULL,NULL,NULL,NULL,NULL,'key-1','hash-1');
INSERT INTO "outbox" VALUES(2,'msg_000000000000000000000002','962302','3EB0000000000000000002','962777@s.whatsapp.net','962777','{"text": "größer 2 🙂"}','sent',1,'2026-11-02T10:00:00.000Z','2026-11-03T10:00:00.000Z',NULL,NULL,NULL,NULL,NULL,NULL,'key-2','hash-2');
INSERT INTO "outbox" VALUES(3,'msg_000000000000000000000003','962302','3EB0000000000000000003','962777@s.whatsapp.net','962777','{"text": "größer 3 🙂"}','sending',1,'2026-11-02T10:00:00.000Z',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'key-3','hash-3');
INSERT INTO "outbox" VALUES(4,'msg_000000000000000000000004','962302','3EB0000000000000000004','962777@s.whatsapp.net','962777','{"text": "größer 4 🙂"}','queued',0,'2026-11-02T10:00:00.000Z',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'key-4','hash-4');
INSERT INTO "outbox" VALUES(5,'msg_000000000000000000000005','962302','3EB0000000000000000005','962777@s.whatsapp.net','962777','{"text": "größer 5 🙂"}','failed',1,'2026-11-02T10:00:00.000Z',NULL,NULL,NULL,NULL,NULL,'not-on-whatsapp','the number is not on WhatsApp','key-5','hash-5');
CREATE TABLE quarantine (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	company_id TEXT NOT NULL, 
	at TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	creds TEXT NOT NULL, 
	keys TEXT NOT NULL
);
INSERT INTO "quarantine" VALUES(1,'962303','2026-11-03T10:00:00.000Z','logged-out','{"me":{"id":"962303:2@s.whatsapp.net"}}','[["pre-key","1","{}"]]');
CREATE TABLE sessions (
	company_id TEXT NOT NULL, 
	state TEXT NOT NULL, 
	since TEXT NOT NULL, 
	reason TEXT, 
	code INTEGER, 
	attempts INTEGER DEFAULT 0 NOT NULL, 
	resumes_at TEXT, 
	phone_number TEXT, 
	jid TEXT, 
	connected_at TEXT, 
	last_activity TEXT, 
	created_at TEXT NOT NULL, 
	PRIMARY KEY (company_id)
);
INSERT INTO "sessions" VALUES('962302','connected','2026-11-03T10:00:00.000Z',NULL,NULL,0,NULL,'962302','962302:1@s.whatsapp.net','2026-11-02T10:00:00.000Z','2026-11-04T10:00:00.000Z','2026-11-01T10:00:00.000Z');
INSERT INTO "sessions" VALUES('962303','logged_out','2026-11-03T10:00:00.000Z','logged-out',401,0,NULL,NULL,NULL,NULL,NULL,'2026-11-01T10:00:00.000Z');
INSERT INTO "sessions" VALUES('962304','unpaired','2026-11-03T10:00:00.000Z',NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,'2026-11-01T10:00:00.000Z');
CREATE TABLE signal_keys (
	company_id TEXT NOT NULL, 
	type TEXT NOT NULL, 
	id TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (company_id, type, id)
)
 WITHOUT ROWID

;
INSERT INTO "signal_keys" VALUES('962302','lid-mapping','962777','"77"');
INSERT INTO "signal_keys" VALUES('962302','pre-key','1','{"public":{"type":"Buffer","data":"AAEC"}}');
INSERT INTO "signal_keys" VALUES('962302','session','962777.0','{"_sessions":{},"version":"v1"}');
CREATE TABLE turns (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	company_id TEXT NOT NULL, 
	at TEXT NOT NULL, 
	"before" TEXT NOT NULL, 
	"after" TEXT NOT NULL, 
	event TEXT NOT NULL, 
	reason TEXT, 
	code INTEGER, 
	attempts INTEGER NOT NULL, 
	next_attempt_at TEXT, 
	lasted_s FLOAT NOT NULL
);
INSERT INTO "turns" VALUES(1,'962302','2026-11-02T10:00:00.000Z','connecting','connected','LinkOpened',NULL,NULL,0,NULL,1.5);
INSERT INTO "turns" VALUES(2,'962302','2026-11-03T10:00:00.000Z','connected','reconnecting','LinkClosed','transport-closed',428,1,'2026-11-03T10:00:00.000Z',86400.25);
CREATE INDEX turns_by_company ON turns (company_id, seq);
CREATE INDEX turns_at ON turns (at);
CREATE UNIQUE INDEX alerts_address ON alerts (id, address);
CREATE UNIQUE INDEX outbox_whatsapp_id ON outbox (company_id, whatsapp_id);
CREATE UNIQUE INDEX outbox_idempotency_key ON outbox (company_id, idempotency_key);
CREATE INDEX outbox_open ON outbox (company_id, seq) WHERE state IN ('queued','sending');
CREATE INDEX outbox_by_company ON outbox (company_id, seq);
CREATE UNIQUE INDEX inbox_message ON inbox (company_id, chat, sender, whatsapp_id);
CREATE INDEX inbox_by_company ON inbox (company_id, seq);
CREATE INDEX decrypted_stored_at ON decrypted (stored_at);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('turns',2);
INSERT INTO "sqlite_sequence" VALUES('alerts',1);
INSERT INTO "sqlite_sequence" VALUES('quarantine',1);
INSERT INTO "sqlite_sequence" VALUES('outbox',5);
INSERT INTO "sqlite_sequence" VALUES('inbox',2);
COMMIT;
