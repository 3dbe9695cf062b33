SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.alerts (
    seq bigint NOT NULL,
    id text NOT NULL,
    address text NOT NULL,
    subject text NOT NULL,
    title text NOT NULL,
    body text NOT NULL,
    severity text NOT NULL,
    made_at text NOT NULL
);
CREATE SEQUENCE public.alerts_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.alerts_seq_seq OWNED BY public.alerts.seq;
CREATE TABLE public.credentials (
    company_id text NOT NULL,
    creds text NOT NULL,
    paired boolean NOT NULL,
    updated_at text NOT NULL
);
CREATE TABLE public.decrypted (
    company_id text NOT NULL,
    ciphertext_sha256 text NOT NULL,
    plaintext bytea NOT NULL,
    stored_at text NOT NULL
);
CREATE TABLE public.inbox (
    seq bigint NOT NULL,
    id text NOT NULL,
    company_id text NOT NULL,
    chat text NOT NULL,
    sender text NOT NULL,
    whatsapp_id text NOT NULL,
    type text NOT NULL,
    text text,
    from_me boolean NOT NULL,
    push_name text,
    sent_at text NOT NULL,
    stored_at text NOT NULL
);
CREATE SEQUENCE public.inbox_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.inbox_seq_seq OWNED BY public.inbox.seq;
CREATE TABLE public.leases (
    company_id text NOT NULL,
    node text NOT NULL,
    holder text NOT NULL,
    epoch bigint NOT NULL,
    expires_at timestamp with time zone NOT NULL
);
CREATE TABLE public.notes (
    name text NOT NULL,
    value text NOT NULL
);
CREATE TABLE public.outbox (
    seq bigint NOT NULL,
    id text NOT NULL,
    company_id text NOT NULL,
    whatsapp_id text NOT NULL,
    chat text NOT NULL,
    recipient text NOT NULL,
    content text NOT NULL,
    state text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    accepted_at text NOT NULL,
    sent_at text,
    delivered_at text,
    read_at text,
    played_at text,
    expires_at text,
    error_code text,
    error text,
    idempotency_key text,
    request_hash text,
    CONSTRAINT outbox_state CHECK ((state = ANY (ARRAY['queued'::text, 'sending'::text, 'sent'::text, 'delivered'::text, 'read'::text, 'played'::text, 'failed'::text, 'expired'::text, 'cancelled'::text])))
);
CREATE SEQUENCE public.outbox_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.outbox_seq_seq OWNED BY public.outbox.seq;
CREATE TABLE public.quarantine (
    seq bigint NOT NULL,
    company_id text NOT NULL,
    at text NOT NULL,
    reason text NOT NULL,
    creds text NOT NULL,
    keys text NOT NULL
);
CREATE SEQUENCE public.quarantine_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.quarantine_seq_seq OWNED BY public.quarantine.seq;
CREATE TABLE public.sessions (
    company_id text NOT NULL,
    state text NOT NULL,
    since text NOT NULL,
    reason text,
    code integer,
    attempts integer DEFAULT 0 NOT NULL,
    resumes_at text,
    phone_number text,
    jid text,
    connected_at text,
    last_activity text,
    created_at text NOT NULL
);
CREATE TABLE public.signal_keys (
    company_id text NOT NULL,
    type text NOT NULL,
    id text NOT NULL,
    value text NOT NULL
);
CREATE TABLE public.turns (
    seq bigint NOT NULL,
    company_id text NOT NULL,
    at text NOT NULL,
    before text NOT NULL,
    after text NOT NULL,
    event text NOT NULL,
    reason text,
    code integer,
    attempts integer NOT NULL,
    next_attempt_at text,
    lasted_s double precision NOT NULL
);
CREATE SEQUENCE public.turns_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.turns_seq_seq OWNED BY public.turns.seq;
ALTER TABLE ONLY public.alerts ALTER COLUMN seq SET DEFAULT nextval('public.alerts_seq_seq'::regclass);
ALTER TABLE ONLY public.inbox ALTER COLUMN seq SET DEFAULT nextval('public.inbox_seq_seq'::regclass);
ALTER TABLE ONLY public.outbox ALTER COLUMN seq SET DEFAULT nextval('public.outbox_seq_seq'::regclass);
ALTER TABLE ONLY public.quarantine ALTER COLUMN seq SET DEFAULT nextval('public.quarantine_seq_seq'::regclass);
ALTER TABLE ONLY public.turns ALTER COLUMN seq SET DEFAULT nextval('public.turns_seq_seq'::regclass);
INSERT INTO public.alembic_version VALUES ('0001');
INSERT INTO public.alerts VALUES (1, 'alr_1', '0f', 'Holdfast', '962303: logged out', 'The session is logged out.', 'critical', '2026-11-03T10:00:00.000Z');
INSERT INTO public.credentials VALUES ('962302', '{"me":{"id":"962302:1@s.whatsapp.net"},"account":{}}', true, '2026-11-02T10:00:00.000Z');
INSERT INTO public.decrypted VALUES ('962302', 'abababababababababababababababababababababababababababababababab', '\x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', '2026-11-02T10:00:00.000Z');
INSERT INTO public.inbox VALUES (1, 'in_1', '962302', '962777@s.whatsapp.net', '962777@s.whatsapp.net', 'ABCD1', 'text', 'Hallo, wie gehts?', false, 'Léa', '2026-11-02T10:00:00.000Z', '2026-11-02T10:00:00.000Z');
INSERT INTO public.inbox VALUES (2, 'in_2', '962302', '962888@s.whatsapp.net', '962888@s.whatsapp.net', 'ABCD2', 'text', NULL, true, NULL, '2026-11-03T10:00:00.000Z', '2026-11-03T10:00:00.000Z');
INSERT INTO public.notes VALUES ('alive', '2026-11-04T10:00:00.000Z');
INSERT INTO public.outbox VALUES (1, 'msg_000000000000000000000001', '962302', '3EB0000000000000000001', '962777@s.whatsapp.net', '962777', '{"text": "größer 1 🙂"}', 'delivered', 1, '2026-11-02T10:00:00.000Z', '2026-11-02T10:00:00.000Z', '2026-11-03T10:00:00.000Z', NULL, NULL, NULL, NULL, NULL, 'key-1', 'hash-1');
INSERT INTO public.outbox VALUES (2, 'msg_000000000000000000000002', '962302', '3EB0000000000000000002', '962777@s.whatsapp.net', '962777', '{"text": "größer 2 🙂"}', 'sent', 1, '2026-11-02T10:00:00.000Z', '2026-11-03T10:00:00.000Z', NULL, NULL, NULL, NULL, NULL, NULL, 'key-2', 'hash-2');
INSERT INTO public.outbox VALUES (3, 'msg_000000000000000000000003', '962302', '3EB0000000000000000003', '962777@s.whatsapp.net', '962777', '{"text": "größer 3 🙂"}', 'sending', 1, '2026-11-02T10:00:00.000Z', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'key-3', 'hash-3');
INSERT INTO public.outbox VALUES (4, 'msg_000000000000000000000004', '962302', '3EB0000000000000000004', '962777@s.whatsapp.net', '962777', '{"text": "größer 4 🙂"}', 'queued', 0, '2026-11-02T10:00:00.000Z', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'key-4', 'hash-4');
INSERT INTO public.outbox VALUES (5, 'msg_000000000000000000000005', '962302', '3EB0000000000000000005', '962777@s.whatsapp.net', '962777', '{"text": "größer 5 🙂"}', 'failed', 1, '2026-11-02T10:00:00.000Z', NULL, NULL, NULL, NULL, NULL, 'not-on-whatsapp', 'the number is not on WhatsApp', 'key-5', 'hash-5');
INSERT INTO public.quarantine VALUES (1, '962303', '2026-11-03T10:00:00.000Z', 'logged-out', '{"me":{"id":"962303:2@s.whatsapp.net"}}', '[["pre-key","1","{}"]]');
INSERT INTO public.sessions VALUES ('962302', 'connected', '2026-11-03T10:00:00.000Z', NULL, NULL, 0, NULL, '962302', '962302:1@s.whatsapp.net', '2026-11-02T10:00:00.000Z', '2026-11-04T10:00:00.000Z', '2026-11-01T10:00:00.000Z');
INSERT INTO public.sessions VALUES ('962303', 'logged_out', '2026-11-03T10:00:00.000Z', 'logged-out', 401, 0, NULL, NULL, NULL, NULL, NULL, '2026-11-01T10:00:00.000Z');
INSERT INTO public.sessions VALUES ('962304', 'unpaired', '2026-11-03T10:00:00.000Z', NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, '2026-11-01T10:00:00.000Z');
INSERT INTO public.signal_keys VALUES ('962302', 'pre-key', '1', '{"public":{"type":"Buffer","data":"AAEC"}}');
INSERT INTO public.signal_keys VALUES ('962302', 'session', '962777.0', '{"_sessions":{},"version":"v1"}');
INSERT INTO public.signal_keys VALUES ('962302', 'lid-mapping', '962777', '"77"');
INSERT INTO public.turns VALUES (1, '962302', '2026-11-02T10:00:00.000Z', 'connecting', 'connected', 'LinkOpened', NULL, NULL, 0, NULL, 1.5);
INSERT INTO public.turns VALUES (2, '962302', '2026-11-03T10:00:00.000Z', 'connected', 'reconnecting', 'LinkClosed', 'transport-closed', 428, 1, '2026-11-03T10:00:00.000Z', 86400.25);
SELECT pg_catalog.setval('public.alerts_seq_seq', 1, true);
SELECT pg_catalog.setval('public.inbox_seq_seq', 2, true);
SELECT pg_catalog.setval('public.outbox_seq_seq', 5, true);
SELECT pg_catalog.setval('public.quarantine_seq_seq', 1, true);
SELECT pg_catalog.setval('public.turns_seq_seq', 2, true);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.alerts
    ADD CONSTRAINT alerts_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY public.credentials
    ADD CONSTRAINT credentials_pkey PRIMARY KEY (company_id);
ALTER TABLE ONLY public.decrypted
    ADD CONSTRAINT decrypted_pkey PRIMARY KEY (company_id, ciphertext_sha256);
ALTER TABLE ONLY public.inbox
    ADD CONSTRAINT inbox_id_key UNIQUE (id);
ALTER TABLE ONLY public.inbox
    ADD CONSTRAINT inbox_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY public.leases
    ADD CONSTRAINT leases_pkey PRIMARY KEY (company_id);
ALTER TABLE ONLY public.notes
    ADD CONSTRAINT notes_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_id_key UNIQUE (id);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY public.quarantine
    ADD CONSTRAINT quarantine_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (company_id);
ALTER TABLE ONLY public.signal_keys
    ADD CONSTRAINT signal_keys_pkey PRIMARY KEY (company_id, type, id);
ALTER TABLE ONLY public.turns
    ADD CONSTRAINT turns_pkey PRIMARY KEY (seq);
CREATE UNIQUE INDEX alerts_address ON public.alerts USING btree (id, address);
CREATE INDEX decrypted_stored_at ON public.decrypted USING btree (stored_at);
CREATE INDEX inbox_by_company ON public.inbox USING btree (company_id, seq);
CREATE UNIQUE INDEX inbox_message ON public.inbox USING btree (company_id, chat, sender, whatsapp_id);
CREATE INDEX outbox_by_company ON public.outbox USING btree (company_id, seq);
CREATE UNIQUE INDEX outbox_idempotency_key ON public.outbox USING btree (company_id, idempotency_key);
CREATE INDEX outbox_open ON public.outbox USING btree (company_id, seq) WHERE (state = ANY (ARRAY['queued'::text, 'sending'::text]));
CREATE UNIQUE INDEX outbox_whatsapp_id ON public.outbox USING btree (company_id, whatsapp_id);
CREATE INDEX turns_at ON public.turns USING btree (at);
CREATE INDEX turns_by_company ON public.turns USING btree (company_id, seq);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_company_id_fkey FOREIGN KEY (company_id) REFERENCES public.sessions(company_id);
