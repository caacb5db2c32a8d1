"""A service that knows nothing of us, without so much as a health check: `render.py serve` says its port, then serves until its standard
input ends; `render.py call` calls it by xDS and says what it answers."""

import concurrent.futures
import sys

import grpc

SERVICE, METHOD = "render", "Draw"


class Handler(grpc.GenericRpcHandler):
    def service(self, call):
        if call.method == f"/{SERVICE}/{METHOD}":
            return grpc.unary_unary_rpc_method_handler(lambda asked, _: b"drawn " + asked)
        return None


def serve():
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(8), handlers=[Handler()])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None)


def call():
    with grpc.insecure_channel(f"xds:///{SERVICE}") as channel:
        print(channel.unary_unary(f"/{SERVICE}/{METHOD}")(b"a tree", timeout=10).decode())


serve() if sys.argv[1] == "serve" else call()
