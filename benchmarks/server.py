"""One server on one implementation, for a client in another process. Prints "listening on PORT", serves until killed.

python benchmarks/server.py protocol corolla
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from suite import dns_pair, echo_servers, file_servers, http_servers, implementations, soak_server, tls_servers
from suite.hosting import Host
from suite.sockets import listening_socket, local_listening_socket, raise_descriptor_limit

SERVERS = {
    **echo_servers.SERVERS,
    **http_servers.SERVERS,
    **file_servers.SERVERS,
    **soak_server.SERVERS,
    **dns_pair.SERVERS,
    **tls_servers.SERVERS,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("server", choices=sorted(SERVERS))
    parser.add_argument("implementation", choices=implementations.EVERY_NAME)
    arguments = parser.parse_args()
    raise_descriptor_limit()
    implementation = implementations.load(arguments.implementation)
    loop = implementation.new_event_loop()
    asyncio.set_event_loop(loop)
    if arguments.server in echo_servers.LOCAL:
        listener, port = local_listening_socket()
    else:
        listener = listening_socket()
        port = listener.getsockname()[1]
    kept = loop.run_until_complete(SERVERS[arguments.server](Host(implementation, loop, listener)))
    print(f"listening on {port}", flush=True)
    try:
        loop.run_forever()
    except KeyboardInterrupt:
        pass
    del kept
    return 0


if __name__ == "__main__":
    sys.exit(main())
