"""FastMCP by its own documentation: python fastmcp_server.py PORT."""

import sys

from fastmcp import FastMCP

server = FastMCP("echo")


@server.tool(description="Says it again", output_schema=None)
def echo(text: str) -> str:
    return text


server.run(transport="http", host="127.0.0.1", port=int(sys.argv[1]), path="/mcp", show_banner=False, log_level="warning")
