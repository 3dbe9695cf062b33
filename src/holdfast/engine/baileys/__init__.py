"""The Baileys engine: a Node program beside this file, and its installer. Python never speaks the protocol itself."""
