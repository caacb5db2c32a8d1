"""Calls a service through the balancer with grpcio alone: `python compute.py [COUNT] [CERTIFICATES]`.

Where there are certificates, the second argument is the folder of those of a client (`lbctl pki issue client NAME`).

Nothing here is ours but the target. GRPC_XDS_BOOTSTRAP names the file that `lbctl xds-bootstrap --out FILE` has written. The
messages are those of lb-worker; of your own service, take the code that you have.
"""

import collections
import pathlib
import sys

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "proto"))
messages, services = grpc.protos_and_services("lb/v1/compute.proto")

count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
answered = collections.Counter()
if len(sys.argv) > 2:
    files = (pathlib.Path(sys.argv[2]) / name for name in ("lb-ca.crt", "lb-client.key", "lb-client.crt"))
    believed = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
    channel = grpc.secure_channel("xds:///lb.v1.Compute", believed)
else:
    channel = grpc.insecure_channel("xds:///lb.v1.Compute")
with channel:
    compute = services.ComputeStub(channel)
    for _ in range(count):
        result = compute.Run(messages.Task(sum=messages.Sum(n=100)), timeout=10)
        assert result.number == 5050
        answered[result.worker_id] += 1
for worker, calls in sorted(answered.items()):
    print(worker, calls)
