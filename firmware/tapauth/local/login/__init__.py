"""Who may use the local interface: roles, PINs, passwords, tokens, lockout. No I/O of its own."""
