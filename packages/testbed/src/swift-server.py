"""One process of an OpenStack Swift cluster, from Debian's python3-swift: the proxy, or a storage node with its
account, container and object server. What Debian's own programs add is a service for each, syslog and /etc/swift.

    swift-server.py rings FOLDER REPLICAS {"account": [PORT, …], …}    writes FOLDER/*.ring.gz, a device per port
    swift-server.py serve FOLDER SERVER=FILE …                        serves until it is killed
    swift-server.py replicate FOLDER FILE …                           brings lists up to date, once
"""
import functools
import json
import logging
import os
import sys
from time import monotonic as now


def make_rings(folder, replicas, ports_of):
    from swift.common.ring import RingBuilder

    # Said here, once: a node would answer 507 to every upload.
    os.setxattr(folder, 'user.stillpoint', b'')
    for kind, ports in ports_of.items():
        # 2^6 partitions are many times the devices; no wait between moves, for there are none.
        builder = RingBuilder(6, replicas, 0)
        for at, port in enumerate(ports):
            address = {'ip': '127.0.0.1', 'port': port, 'replication_ip': '127.0.0.1', 'replication_port': port}
            builder.add_dev(dict(address, region=1, zone=at + 1, device='disk%d' % at, weight=1.0, meta=''))
        builder.rebalance(seed='stillpoint')
        builder.get_ring().save(os.path.join(folder, kind + '.ring.gz'))


def log_to_stderr(conf, name, log_to_console, log_route, fmt, logger, adapted_logger):
    """A `log_custom_handlers` of Swift: our log instead of the machine's."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter('%(asctime)s %(name)s: %(message)s'))
    logger.addHandler(handler)


def serve(folder, servers):
    from swift.common import utils

    utils.eventlet_monkey_patch()
    # Before anything else of Swift reads it: instead of /etc/swift/swift.conf.
    utils.set_swift_dir(folder)
    import eventlet
    from eventlet import hubs

    hubs.use_hub(utils.get_hub())
    wait_for_lists()
    started = [eventlet.spawn(*server_of(*server.split('=', 1))) for server in servers]
    for thread in started:
        thread.link(ended)
    print('serving', file=sys.stderr, flush=True)
    started[0].wait()


def wait_for_lists():
    """Swift answers with an older list when the newer one cannot be had within 0.1 s. A machine that is busy with other
    tests is no cluster that is behind: here it waits."""
    from swift.container.server import ContainerController

    patient = ContainerController._get_container_broker

    def broker_of(self, *args, **settings):
        settings.update(pending_timeout=10, stale_reads_ok=False)
        return patient(self, *args, **settings)

    ContainerController._get_container_broker = broker_of


def server_of(section, path):
    """What Swift's own `run_server` does, for more than one in a process."""
    from eventlet import wsgi as eventlet_wsgi
    from swift.common import utils, wsgi

    conf, _, log_name = wsgi._initrp(path, section)
    sock = wsgi.get_socket(conf)
    app = wsgi.loadapp(path, global_conf={'log_name': log_name})
    options = {
        'custom_pool': wsgi.RestrictedGreenPool(size=1024),
        'protocol': wsgi.SwiftHttpProtocol,
        'socket_timeout': 60,
        # S3 clients look for "ETag".
        'capitalize_response_headers': False,
    }
    return functools.partial(eventlet_wsgi.server, sock, app, utils.NullLogger(), **options),


def replicate(folder, files):
    """What the container replicators of a cluster do every half-minute, on the nodes of these files."""
    from swift.common import utils

    utils.eventlet_monkey_patch()
    utils.set_swift_dir(folder)
    from swift.common.utils import readconf
    from swift.container.replicator import ContainerReplicator

    for file in files:
        ContainerReplicator(readconf(file, 'container-replicator')).run_once()


class Cache:
    """What the proxy would ask memcached for, which is one more server; one process has need of none."""

    def __init__(self):
        self.entries = {}

    def get(self, key, raise_on_error=False):
        text, until = self.entries.get(key, ('null', 0))
        # As from memcached: a copy, of what JSON can say.
        return json.loads(text) if until > now() else None

    def set(self, key, value, time=0, **_):
        self.entries[key] = (json.dumps(value), now() + (time or 3600))

    def delete(self, key, server_key=None):
        self.entries.pop(key, None)


def cache_filter(conf, **_):
    cache = Cache()

    def wrap(app):
        def cached(env, start_response):
            env['swift.cache'] = cache
            return app(env, start_response)

        return cached

    return wrap


def ended(thread):
    """A server that ends takes the process with it: half a node would be hard to find."""
    try:
        thread.wait()
    finally:
        sys.stderr.flush()
        os._exit(1)


if __name__ == '__main__':
    # Where configurations find this module.
    sys.modules['swift_server'] = sys.modules['__main__']
    if sys.argv[1] == 'rings':
        make_rings(sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4]))
    elif sys.argv[1] == 'replicate':
        replicate(sys.argv[2], sys.argv[3:])
    else:
        serve(sys.argv[2], sys.argv[3:])
