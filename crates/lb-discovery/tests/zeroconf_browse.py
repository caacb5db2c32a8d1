"""Browses with python-zeroconf on the loopback.

Usage: zeroconf_browse.py SERVICE_TYPE ID
Prints one line of JSON when the service with TXT id=ID is resolved and one when it is removed.
"""

import json
import sys
import threading

from zeroconf import ServiceBrowser, ServiceStateChange, Zeroconf

service_type, wanted = sys.argv[1:3]
done = threading.Event()
names = set()


def say(**fields):
    print(json.dumps(fields), flush=True)


def changed(zeroconf, service_type, name, state_change):
    if state_change is ServiceStateChange.Removed:
        if name in names:
            say(event="removed", name=name)
            done.set()
        return
    info = zeroconf.get_service_info(service_type, name)
    if info is None or name in names:
        return
    txt = {key.decode(): (value or b"").decode() for key, value in info.properties.items()}
    if txt.get("id") == wanted:
        names.add(name)
        say(
            event="resolved",
            name=name,
            host=info.server,
            addresses=info.parsed_addresses(),
            port=info.port,
            txt=txt,
            first=bytes(info.text[1 : 1 + info.text[0]]).decode(),
        )


zeroconf = Zeroconf(interfaces=["127.0.0.1"])
browser = ServiceBrowser(zeroconf, service_type, handlers=[changed])
say(event="browsing")
done.wait(timeout=60)
zeroconf.close()
