"""The local interface: a WebSocket for commands, HTTP for files and the console page."""
