"""Serves two endpoints by a real framework, and writes down from inside which of them runs at which moment.

``endpoints.py DIRECTORY FRAMEWORK [LOOP]``, or ``endpoints.py DIRECTORY SERVER APPLICATION``. The record is
as that of ``loops.py``. A thread of the program itself asks for the endpoints, one after the other. Prints a
line of JSON as ``loops.py`` does.
"""

import asyncio
import http.client
import json
import os
import socket
import sys
import threading
from time import sleep

from loops import NOTHING, NUMBERS, Ring

RING = Ring(sys.argv[1], "one")


def step(label, seconds):
    """Hold the loop for a while."""
    RING.note(NUMBERS[label])
    sleep(seconds)
    RING.note(NOTHING)


def ask(port, server):
    """Ask for both endpoints of the process that serves, again and again."""
    print(json.dumps([server, {"one": server}]), flush=True)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while True:
        for path in ("/dear", "/cheap"):
            connection.request("GET", path)
            connection.getresponse().read()


def start(listener):
    """Begin to ask."""
    port = listener.getsockname()[1]
    threading.Thread(target=ask, args=(port, os.getpid()), daemon=True).start()


def aiohttp(listener):
    """Serve by aiohttp."""
    from aiohttp import web

    async def dear(_):
        step("dear", 0.004)
        await asyncio.sleep(0.001)
        step("dear", 0.002)
        return web.Response()

    async def cheap(_):
        step("cheap", 0.003)
        return web.Response()

    async def serve():
        application = web.Application()
        application.router.add_get("/dear", dear)
        application.router.add_get("/cheap", cheap)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        start(listener)
        await asyncio.Event().wait()

    asyncio.run(serve())


def fastapi(listener, loop="asyncio"):
    """Serve by FastAPI on uvicorn, on a loop of that kind."""
    import uvicorn
    from fastapi import FastAPI

    application = FastAPI()

    @application.get("/dear")
    async def dear():
        step("dear", 0.004)
        await asyncio.sleep(0.001)
        step("dear", 0.002)

    @application.get("/cheap")
    async def cheap():
        step("cheap", 0.003)

    start(listener)
    config = uvicorn.Config(application, loop=loop, log_level="critical", lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])


def hypercorn(listener):
    """Serve FastAPI by hypercorn on trio."""
    import trio
    from fastapi import FastAPI
    from hypercorn.config import Config
    from hypercorn.trio import serve

    application = FastAPI()

    @application.get("/dear")
    async def dear():
        step("dear", 0.004)
        await trio.sleep(0.001)
        step("dear", 0.002)

    @application.get("/cheap")
    async def cheap():
        step("cheap", 0.003)

    start(listener)
    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    trio.run(serve, application, config)


def gunicorn(listener):
    """Serve Flask by gunicorn with a worker of gevent. Another process asks."""
    port = listener.getsockname()[1]
    if not os.fork():
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/pid")
            ask(port, int(connection.getresponse().read()))
        finally:  # gunicorn has ended
            os._exit(0)
    from flask import Flask
    from gunicorn.app.base import BaseApplication

    application = Flask("endpoints")

    @application.get("/dear")
    def dear():
        step("dear", 0.006)
        return ""

    @application.get("/cheap")
    def cheap():
        step("cheap", 0.003)
        return ""

    @application.get("/pid")
    def pid():
        return str(os.getpid())

    class Application(BaseApplication):
        def load_config(self):
            self.cfg.set("bind", f"fd://{listener.fileno()}")
            self.cfg.set("worker_class", "gevent")

        def load(self):
            return application

    Application().run()


def of_starlette():
    """Return an application of Starlette."""
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    async def dear(_):
        step("dear", 0.004)
        await asyncio.sleep(0.001)
        step("dear", 0.002)
        return Response()

    async def cheap(_):
        step("cheap", 0.003)
        return Response()

    return Starlette(routes=[Route("/dear", dear), Route("/cheap", cheap)])


def of_django():
    """Return an application of Django, with one of its middlewares."""
    from django.conf import settings

    settings.configure(
        ROOT_URLCONF="__main__",
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="none",  # noqa: S106  # it signs nothing
        LOGGING_CONFIG=None,
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    )
    import django
    from django.http import HttpResponse
    from django.urls import path

    async def dear(_):
        step("dear", 0.004)
        await asyncio.sleep(0.001)
        step("dear", 0.002)
        return HttpResponse()

    async def cheap(_):
        step("cheap", 0.003)
        return HttpResponse()

    sys.modules["__main__"].urlpatterns = [path("dear", dear), path("cheap", cheap)]
    django.setup()
    from django.core.handlers.asgi import ASGIHandler

    return ASGIHandler()


def of_sqlalchemy():
    """Return an application of Starlette whose endpoints do their work in greenlets of SQLAlchemy."""
    from sqlalchemy.ext.asyncio import create_async_engine
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    engine = create_async_engine("sqlite+aiosqlite://")

    def dear_query(_):
        step("dear", 0.004)

    def cheap_query(_):
        step("cheap", 0.003)

    async def dear(_):
        async with engine.connect() as connection:
            await connection.run_sync(dear_query)
        step("dear", 0.002)
        return Response()

    async def cheap(_):
        async with engine.connect() as connection:
            await connection.run_sync(cheap_query)
        return Response()

    return Starlette(routes=[Route("/dear", dear), Route("/cheap", cheap)])


APPLICATIONS = {"starlette": of_starlette, "django": of_django, "sqlalchemy": of_sqlalchemy}


def uvicorn(listener, application):
    """Serve by uvicorn on asyncio's own loop."""
    import uvicorn

    served = APPLICATIONS[application]()
    start(listener)
    config = uvicorn.Config(served, loop="asyncio", log_level="critical", lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])


def hypercorn_on_asyncio(listener, application):
    """Serve by hypercorn on asyncio's own loop."""
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    served = APPLICATIONS[application]()
    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    start(listener)
    asyncio.run(serve(served, config))


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    servers = {
        "aiohttp": aiohttp,
        "fastapi": fastapi,
        "gunicorn": gunicorn,
        "hypercorn": hypercorn,
        "hypercorn on asyncio": hypercorn_on_asyncio,
        "uvicorn": uvicorn,
    }
    servers[sys.argv[2]](listener, *sys.argv[3:])
