"""What a command and the host agree on; a command that talks to it loads nothing of the server."""

LOOPBACK = "127.0.0.1"
EXIT_CODE_HEADER = "X-Pipeline-Exit-Code"
