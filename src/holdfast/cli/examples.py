"""An example for each command, as a person would type it: shown below `--help` and in docs/commands.md."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

EXAMPLES: Mapping[str, str] = MappingProxyType({
    "serve": "holdfast serve",
    "settings": "holdfast settings HOLDFAST_KEEPALIVE_INTERVAL_S",
    "check": "holdfast check",
    "fill-npm-cache": "holdfast fill-npm-cache ./npm-cache",
    "nodes": "holdfast nodes",
    "drain": "holdfast drain --timeout 2m",
    "pair": "holdfast pair 962302 --phone 962790000001",
    "sessions": "holdfast sessions",
    "show": "holdfast show 962302 --json",
    "watch": "holdfast watch 962302 --for 5m",
    "start": "holdfast start 962302",
    "stop": "holdfast stop 962302",
    "reconnect": "holdfast reconnect 962302",
    "logout": "holdfast logout 962302",
    "send": 'holdfast send 962302 962790000099 "Good morning" --wait',
    "messages": "holdfast messages 962302 --newest 50",
    "inbox": "holdfast inbox 962302 --newest 50",
    "message": "holdfast message msg_01jdq3vdqm",
    "chats": "holdfast chats 962302 --unread",
    "contacts": "holdfast contacts 962302 --find layla",
    "check-numbers": "holdfast check-numbers 962302 962790000099 962790000098",
    "groups": "holdfast groups 962302",
    "group members": "holdfast group members 962302 120363012345678901@g.us",
    "group create": 'holdfast group create 962302 "Weekend orders" 962790000099 962790000098',
    "logs": "holdfast logs 962302 --since 1h --follow",
    "webhooks list": "holdfast webhooks list",
    "webhooks failed": "holdfast webhooks failed --company 962302",
    "webhooks replay": "holdfast webhooks replay --since 2026-11-22T00:00:00Z",
    "webhooks resume": "holdfast webhooks resume default",
    "backup create": "holdfast backup create before-upgrade.backup",
    "backup list": "holdfast backup list",
    "backup restore": "holdfast backup restore before-upgrade.backup",
    "clear": "holdfast clear 962302",
    "compact": "holdfast compact",
    "import": "holdfast import waha 962302 /srv/waha/.sessions/noweb --session shop",
    "import-baileys": "holdfast import-baileys 962302 ./auth_info_baileys",
    "export-baileys": "holdfast export-baileys 962302 ./auth_info_baileys",
    "demo": "holdfast demo --seconds 60",
    "lab list": "holdfast lab list",
    "lab run": "holdfast lab run freeze --seconds 60 --json",
})  # fmt: skip
