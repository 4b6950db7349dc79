"""The Python SDK's client against examples/everything; scripts/check-python.mjs starts both. One line per check."""

import asyncio
import json
import sys

import httpx2
import mcp.types as types
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

TIMEOUT = 20
failures = 0


async def check(name, body):
    """Runs one check, and says how it went."""
    global failures
    try:
        print(f"ok    {name}: {await asyncio.wait_for(body(), TIMEOUT)}", flush=True)
    except Exception as error:
        failures += 1
        print(f"FAIL  {name}: {type(error).__name__}: {error}", flush=True)


def expect(actual, expected):
    if actual != expected:
        raise AssertionError(f"expected {expected!r}, got {actual!r}")
    return actual


def text_of(result):
    if result.is_error:
        raise AssertionError(f"the tool failed: {result.content}")
    return "\n".join(part.text for part in result.content)


async def elicited(context, params):
    return types.ElicitResult(action="accept", content={"name": "Ada", "color": "green"})


async def sampled(context, params):
    prompt = params.messages[0].content
    return types.CreateMessageResult(
        role="assistant",
        model="a-python-model",
        content=types.TextContent(type="text", text=f"as asked: {prompt.text}"),
    )


async def main(url):
    updated = asyncio.Queue()

    async def on_message(message):
        if isinstance(message, types.ResourceUpdatedNotification):
            updated.put_nowait(str(message.params.uri))

    requests = []

    async def on_response(response):
        requests.append((response.request.method, response.status_code, response.headers.get("mcp-session-id")))

    async with httpx2.AsyncClient(event_hooks={"response": [on_response]}, timeout=httpx2.Timeout(30, read=300)) as http:
        async with streamable_http_client(url, http_client=http) as streams:
            async with ClientSession(
                streams[0],
                streams[1],
                elicitation_callback=elicited,
                sampling_callback=sampled,
                message_handler=on_message,
            ) as session:
                await check("initialize", lambda: initialize(session))
                await use(session, updated)
    session_id = next((id for method, status, id in requests if id), None)

    async def deleted():
        expect([status for method, status, id in requests if method == "DELETE"], [200])
        return "200"

    async def gone():
        async with httpx2.AsyncClient() as plain:
            answer = await plain.post(
                url,
                json={"jsonrpc": "2.0", "id": 1, "method": "ping"},
                headers={"mcp-session-id": session_id, "accept": "application/json, text/event-stream"},
            )
        return expect(answer.status_code, 404)

    await check("leaving sends DELETE", deleted)
    await check("then the session is gone", gone)


async def initialize(session):
    result = await session.initialize()
    expect(result.server_info.name, "everything")
    return f"revision {session.protocol_version}"


async def use(session, updated):
    async def call(name, arguments=None, **more):
        return text_of(await session.call_tool(name, arguments or {}, **more))

    async def list_tools():
        names = sorted(tool.name for tool in (await session.list_tools()).tools)
        expect(names, ["add", "ask", "count", "echo", "sample", "sleep", "whoami"])
        return ", ".join(names)

    async def echo():
        return expect(await call("echo", {"text": "grüß dich"}), "grüß dich")

    async def add():
        result = await session.call_tool("add", {"a": 2, "b": 40})
        return expect(result.structured_content, {"sum": 42})

    async def sleep():
        reports = []

        async def on_progress(progress, total, message):
            reports.append(progress)

        await call("sleep", {"ms": 450}, progress_callback=on_progress)
        if len(reports) < 4 or reports != sorted(reports):
            raise AssertionError(f"reports of progress: {reports}")
        return f"{len(reports)} reports of progress"

    async def count():
        expect(await call("count"), "1")
        return expect(await call("count"), "2")

    async def whoami():
        return expect(json.loads(await call("whoami"))["era"], "legacy")

    async def ask():
        return expect(await call("ask"), "The user accepted: Ada likes green")

    async def sample():
        return expect(await call("sample", {"prompt": "why?"}), "a-python-model answered: as asked: why?")

    async def resource():
        result = await session.read_resource("about://everything")
        return result.contents[0].text.splitlines()[0]

    async def prompt():
        result = await session.get_prompt("greeting", {"name": "Ada", "language": "Danish"})
        return result.messages[0].content.text

    async def subscribe():
        await session.subscribe_resource("clock://now")
        uri = await updated.get()
        await session.unsubscribe_resource("clock://now")
        return f"heard of {uri}"

    for name, body in {
        "tools/list": list_tools,
        "echo": echo,
        "add, with structured content": add,
        "sleep, with progress": sleep,
        "count: the session remembers": count,
        "whoami": whoami,
        "ask, by elicitation": ask,
        "sample, by sampling": sample,
        "a resource": resource,
        "a prompt": prompt,
        "a subscription": subscribe,
        "ping": lambda: ping(session),
    }.items():
        await check(name, body)


async def ping(session):
    await session.send_ping()
    return "answered"


asyncio.run(main(sys.argv[1]))
sys.exit(1 if failures else 0)
