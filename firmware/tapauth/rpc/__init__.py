"""The cloud auth service: app tokens, authentication, command authorization (docs/rpc.md)."""
