"""Announces with python-zeroconf on the loopback until standard input closes.

Usage: zeroconf_advertise.py SERVICE_TYPE INSTANCE PORT KEY=VALUE...
Prints one line of JSON when the announcement is out, then withdraws it at the end of its input.
"""

import json
import socket
import sys

from zeroconf import ServiceInfo, Zeroconf

service_type, instance, port = sys.argv[1:4]
info = ServiceInfo(
    service_type,
    f"{instance}.{service_type}",
    addresses=[socket.inet_aton("127.0.0.1")],
    port=int(port),
    properties=dict(pair.split("=", 1) for pair in sys.argv[4:]),
    server=f"lb-{instance}.local.",
)
zeroconf = Zeroconf(interfaces=["127.0.0.1"])
zeroconf.register_service(info)
print(json.dumps({"event": "announced"}), flush=True)
sys.stdin.read()
zeroconf.unregister_service(info)
zeroconf.close()
