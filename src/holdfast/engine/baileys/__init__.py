"""The Baileys engine: a Node program beside this file, and what installs it. Python never speaks the protocol."""
