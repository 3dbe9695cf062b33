"""`holdfast keys …`: list, create, revoke."""

from __future__ import annotations

from tests.cli.command import Command


async def test_a_key_is_created_listed_and_revoked(holdfast: Command) -> None:
    """Only the key is on standard output, so that scripts can read it."""
    created = await holdfast("keys", "create", "Bakery CRM", "962302", "962303")
    assert created.code == 0
    assert created.out.startswith("hf_")
    assert len(created.out.split()) == 1
    listed = (await holdfast("keys", "list", "--json")).json["items"]
    assert [each["name"] for each in listed] == ["HOLDFAST_API_KEY", "Bakery CRM"]
    table = (await holdfast("keys", "list")).out
    assert "962302, 962303" in table
    assert created.out.strip() not in table
    assert "Z" not in table.split("Bakery CRM")[1]
    revoked = await holdfast("keys", "revoke", listed[1]["id"])
    assert revoked.out == f"{listed[1]['id']} (Bakery CRM) is revoked.\n"
    assert (await holdfast("keys", "revoke", "settings-1")).refused(1).startswith("this key comes from")
