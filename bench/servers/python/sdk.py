"""The Python SDK by its own documentation: python sdk.py PORT."""

import sys

from mcp.server import MCPServer

server = MCPServer("echo", log_level="WARNING")


@server.tool(description="Says it again", structured_output=False)
def echo(text: str) -> str:
    return text


server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
