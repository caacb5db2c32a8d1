"""A program that knows nothing of us: calls `xds:///SERVICE` without pause, with grpcio as it comes, and counts.

Each line on the standard input is a command, answered by one line of JSON:
  go                begins
  count             how many calls each worker has answered since the last time and when the last of them began, which
                    failed, and the longest
  unknown NAME      how long a call to a service that nobody offers takes to fail, and how
  drain ADDRESS ID  drains a worker, and when that was asked for; times are those of CLOCK_MONOTONIC
  policies N S ADDRESS A B   puts the policies A and B in force by turns, N times in S seconds
"""

import collections
import json
import sys
import threading
import time

import grpc

CALLERS = 8
# Task { sleep { duration_us: 25000 } }: long beside what a busy machine is late, or a worker that has less to do looks slow.
SLEEP_25_MS = b"\x0a\x04\x08\xa8\xc3\x01"
RUN = "/lb.v1.Compute/Run"


def worker(answer):
    """TaskResult.worker_id, field 15."""
    place = 0
    while place < len(answer):
        key, place = varint(answer, place)
        if key & 7 == 2:
            size, place = varint(answer, place)
            if key >> 3 == 15:
                return answer[place : place + size].decode()
            place += size
        else:
            _, place = varint(answer, place)
    return "?"


def varint(data, place):
    value = shift = 0
    while True:
        byte = data[place]
        value, shift, place = value | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            return value, place


class Counts:
    def __init__(self):
        self.lock = threading.Lock()
        self.clear()

    def clear(self):
        self.answered, self.failed = collections.Counter(), collections.Counter()
        self.begun, self.longest = {}, 0.0

    def take(self):
        with self.lock:
            taken = {
                "answered": self.answered,
                "failed": self.failed,
                "begun": self.begun,
                "longest": self.longest,
            }
            self.clear()
        return taken

    def note(self, begun, who=None, error=None):
        with self.lock:
            self.longest = max(self.longest, time.monotonic() - begun)
            if error is None:
                self.answered[who] += 1
                self.begun[who] = max(begun, self.begun.get(who, begun))
            else:
                self.failed[error] += 1


def call(stub, counts):
    while True:
        begun = time.monotonic()
        try:
            counts.note(begun, worker(stub(SLEEP_25_MS, timeout=10)))
        except grpc.RpcError as error:
            counts.note(begun, error=f"{error.code().name}: {error.details()[:150]}")
            time.sleep(0.01)


def unknown(name):
    begun = time.monotonic()
    with grpc.insecure_channel(f"xds:///{name}") as channel:
        try:
            channel.unary_unary(f"/{name}/Any")(b"", timeout=20)
            how = "OK"
        except grpc.RpcError as error:
            how = error.code().name
    return {"seconds": time.monotonic() - begun, "how": how}


def field(text):
    """A message whose only field is 1, a short text."""
    return b"\x0a" + bytes([len(text)]) + text.encode()


def drain(address, worker):
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        asked = time.monotonic()
        channel.unary_unary("/lb.v1.Admin/Drain")(field(worker), timeout=10)
        return {"seconds": asked}


def policies(times, seconds, address, *names):
    with grpc.insecure_channel(address) as channel:
        put = channel.unary_unary("/lb.v1.Admin/SetPolicy")
        begun = time.monotonic()
        for turn in range(int(times)):
            put(field(names[turn % len(names)]), timeout=5)
            pause = begun + (turn + 1) * float(seconds) / int(times) - time.monotonic()
            time.sleep(max(0, pause))
        return {"seconds": time.monotonic() - begun}


def main():
    counts = Counts()
    stub = grpc.insecure_channel("xds:///lb.v1.Compute").unary_unary(RUN)
    for line in sys.stdin:
        command, *words = line.split()
        if command == "go":
            for _ in range(CALLERS):
                threading.Thread(target=call, args=(stub, counts), daemon=True).start()
            answer = {}
        elif command == "count":
            answer = counts.take()
        elif command == "unknown":
            answer = unknown(*words)
        elif command == "drain":
            answer = drain(*words)
        else:
            answer = policies(*words)
        print(json.dumps(answer), flush=True)


main()
