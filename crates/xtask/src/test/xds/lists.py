"""How soon lists follow: asks a balancer for lists as a gRPC library would, drains and accuses workers, and takes the time until
the list without them is here.

  lists.py ADDRESS SERVICE TIMES DRAINED ACCUSED...

One line of JSON, in seconds: from the order to drain (TIMES times) to the list without the worker; from the order to take it back to
the list with it; from the count of failed calls of each accused worker to the list without it. No other client may call meanwhile,
since a good word for a worker counts as well.
"""

import json
import queue
import sys
import time

import grpc

ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
LRS = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats"
PATIENCE = 30
# For all of it; a list that never comes ends the stream then.
LIMIT = 120


def varint(number):
    low = bytes()
    while number > 127:
        low, number = low + bytes([number & 127 | 128]), number >> 7
    return low + bytes([number])


def field(number, content):
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def sub_zone(worker):
    return field(3, worker)


class Stream:
    """Both ways, from bytes to bytes."""

    def __init__(self, channel, method):
        self.said = queue.Queue()
        self.answers = channel.stream_stream(method)(iter(self.said.get, None), timeout=LIMIT)

    def say(self, message):
        self.said.put(message)


def subscribe(channel, service):
    stream = Stream(channel, ADS)
    node = field(2, field(1, "lists"))
    stream.wanted = field(3, service) + field(4, ENDPOINTS)
    stream.say(node + stream.wanted)
    return stream


def texts(message):
    """The fields of a message that are texts or messages; it has no others."""
    place, found = 0, {}
    while place < len(message):
        key, place = read_varint(message, place)
        size, place = read_varint(message, place)
        found[key >> 3] = message[place : place + size]
        place += size
    return found


def read_varint(data, place):
    value = shift = 0
    while True:
        byte = data[place]
        value, shift, place = value | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            return value, place


def until(stream, wanted):
    """When the first list came that is as wanted."""
    begun = time.monotonic()
    for answer in stream.answers:
        came = time.monotonic()
        parts = texts(answer)
        stream.say(field(1, parts[1]) + stream.wanted + field(5, parts[5]))
        if wanted(answer):
            return came
        if time.monotonic() - begun > PATIENCE:
            break
    sys.exit("a list does not follow")


def main():
    address, service, times, drained, *accused = sys.argv[1:]
    channel, other = grpc.insecure_channel(address), grpc.insecure_channel(address)
    for one in (channel, other):
        grpc.channel_ready_future(one).result(timeout=PATIENCE)
    order = {
        name: other.unary_unary(f"/lb.v1.Admin/{name}") for name in ("Drain", "Undrain")
    }
    lists = subscribe(channel, service)
    everyone = [drained, *accused]
    until(lists, lambda answer: all(sub_zone(worker) in answer for worker in everyone))
    took = {"drained": [], "back": [], "accused": []}
    for _ in range(int(times)):
        begun = time.monotonic()
        # Kept until its answer is here: a call that nobody holds is cancelled.
        call = order["Drain"].future(field(1, drained), timeout=PATIENCE)
        took["drained"].append(until(lists, lambda answer: sub_zone(drained) not in answer) - begun)
        call.result()
        begun = time.monotonic()
        call = order["Undrain"].future(field(1, drained), timeout=PATIENCE)
        took["back"].append(until(lists, lambda answer: sub_zone(drained) in answer) - begun)
        call.result()
    counts = Stream(other, LRS)
    counts.say(field(1, field(1, "lists")))
    next(counts.answers)
    for worker in accused:
        stats = b""
        for one in everyone:
            locality = field(1, field(1, "lb") + sub_zone(one))
            ends = field(4, 100) if one == worker else field(2, 100)
            stats += field(2, locality + ends)
        begun = time.monotonic()
        counts.say(field(2, field(1, service) + stats))
        took["accused"].append(until(lists, lambda answer: sub_zone(worker) not in answer) - begun)
        until(lists, lambda answer: sub_zone(worker) in answer)
    print(json.dumps(took))


main()
