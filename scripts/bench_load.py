"""The interface under load: a real server over TLS, and wrk beside it on the same cores. For bench.py.

Everything goes over loopback to a server that this module started. Each request carries an API key, and each answer is
authorised as any other. Limits on the rate of requests are raised, since they would be all that is measured.
"""
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.request

MACHINES = 100
CORES = len(os.sched_getaffinity(0))
PAGE = f'/v1/vms?limit={MACHINES}'
# A whole number of workers share what one address sends; nobody is limited but by the machine.
CONFIG = '''
[listen]
address = "127.0.0.1:{port}"
names = ["127.0.0.1"]
[limits]
requests-per-second-per-address = 1000000
requests-per-second-per-user = 1000000
[[admission.signers]]
name = "the benchmark's own builds"
key = "builds.pub"
'''
# wrk gives each of its threads an interpreter of its own; `done` gathers what they counted. Acknowledged machines are
# written to a file a thread, at once: whoever reads it later knows what the server had promised. Without such a folder
# machines are removed as fast as they are described: what the memory grows by then is not what is kept.
SCRIPT = '''
local threads = {}
local number = 0
function setup(thread)
  number = number + 1
  thread:set("me", number)
  table.insert(threads, thread)
end
function init(args)
  statuses, made, alive = {}, 0, {}
  share, folder = tonumber(args[1]), args[2]
  if folder then acknowledged = io.open(folder .. "/acknowledged-" .. me, "w") end
  math.randomseed(me)
end
function request()
  local dice = math.random()
  if dice < share and not folder and #alive > 50 then
    return wrk.format("DELETE", "/v1/vms/" .. table.remove(alive, 1))
  elseif dice < share then
    made = made + 1
    local body = string.format(BODY, me .. "-" .. made .. "-" .. TAG)
    return wrk.format("POST", "/v1/vms", nil, body)
  elseif dice < share + (1 - share) / 4 then
    return wrk.format("GET", ONE)
  else
    return wrk.format("GET", PAGE)
  end
end
function response(status, headers, body)
  statuses[status] = (statuses[status] or 0) + 1
  if status == 201 then
    local name = string.match(body, '"name":"([^"]+)"')
    if acknowledged then
      acknowledged:write(name .. "\\n")
      acknowledged:flush()
    else
      table.insert(alive, name)
    end
  end
end
function done(summary, latency, requests)
  local all = {}
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("statuses")) do all[status] = (all[status] or 0) + count end
  end
  local said = {}
  for status, count in pairs(all) do table.insert(said, string.format('"%d": %d', status, count)) end
  local errors = summary.errors
  io.stderr:write(string.format(
    '{"statuses": {%s}, "seconds": %f, "requests": %d, "bytes": %d, "p50_ms": %f, "p99_ms": %f, "max_ms": %f, ' ..
    '"lost": {"connect": %d, "read": %d, "write": %d, "timeout": %d}}\\n',
    table.concat(said, ", "), summary.duration / 1e6, summary.requests, summary.bytes, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, latency.max / 1e3, errors.connect, errors.read, errors.write, errors.timeout))
end
'''


class Server:
    """A server of ours with a disk image in its store, a key for machines, and machines made of that image."""

    def __init__(self, debvisor, folder, environment):
        self.debvisor, self.folder = str(debvisor), pathlib.Path(folder)
        self.environment = {**environment, 'DEBVISOR_KEY_PASSWORD': 'benchmark', 'DEBVISOR_SOCKET': str(self.folder / 'state/api.sock')}
        self.child = self.key = self.spec = None
        self.folder.mkdir()
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            self.port = free.getsockname()[1]

    def prepare(self):
        """Brings it up with its machines and its key."""
        (self.folder / 'debvisor.toml').write_text(CONFIG.format(port=self.port))
        (self.folder / 'disk.raw').write_bytes(b'a disk of a benchmark\n' * 4096)
        self.ask('key', 'generate', '--out', 'builds', '--quiet')
        self.ask('sign', 'disk.raw', '--key', 'builds.key', '--bundle', 'disk.raw.sigstore.json', '--offline', '--quiet')
        self.up()
        self.ask('image', 'import', 'disk.raw', '--kind', 'disk', '--quiet')
        self.ask('user', 'create', 'bench', '--role', 'admin', '--password-stdin', '--quiet', said='correct horse battery staple 4711\n')
        for number in range(MACHINES):
            self.ask('vm', 'create', f'machine-{number}', '--memory', '64M', '--disk', 'disk.raw', '--quiet')
        machine = json.loads(self.ask('vm', 'show', 'machine-0', '--format', 'json'))
        self.spec = machine['spec']
        self.key = self.make_key()

    def ask(self, *words, said=None):
        done = subprocess.run([self.debvisor, *words], cwd=self.folder, env=self.environment, input=said,
                              stdin=None if said else subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f'debvisor {" ".join(words)}: {done.stderr.strip()}')
        return done.stdout

    def up(self):
        """Starts it, and returns the seconds until it was ready."""
        start = time.perf_counter()
        self.child = subprocess.Popen([self.debvisor, 'up', '--quiet', '--state-dir', 'state', '--config', 'debvisor.toml'],
                                      cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL, stderr=open(self.folder / 'server.log', 'ab'))
        while True:
            try:
                with self.open('/health/ready'):
                    return time.perf_counter() - start
            except OSError:
                if self.child.poll() is not None or time.perf_counter() - start > 60:
                    raise RuntimeError((self.folder / 'server.log').read_text()[-2000:]) from None
                time.sleep(0.02)

    def make_key(self):
        scopes = [word for scope in ('vm.read', 'vm.create', 'vm.delete') for word in ('--scope', scope)]
        return self.ask('token', 'create', 'load', '--user', 'bench', *scopes).split()[0]

    def open(self, path):
        # What is measured is the server; a client that believes any certificate is enough on loopback.
        anything = ssl._create_unverified_context()
        request = urllib.request.Request(f'https://127.0.0.1:{self.port}{path}')
        if self.key:
            request.add_header('Authorization', f'Bearer {self.key}')
        return urllib.request.urlopen(request, timeout=30, context=anything)

    def names(self):
        """The names of all machines that it lists, page by page."""
        found, after = set(), ''
        while after is not None:
            with self.open(f'/v1/vms?limit=1000{after}') as answer:
                page = json.load(answer)
            found.update(machine['name'] for machine in page['items'])
            after = f'&after={page["next"]}' if page.get('next') else None
        return found

    def resident_mib(self):
        status = pathlib.Path(f'/proc/{self.child.pid}/status').read_text()
        return int(re.search(r'VmRSS:\s+(\d+)', status).group(1)) / 1024

    def wrk(self, clients, seconds, share, folder=None):
        """Starts wrk with so many clients; `share` of the requests describe a machine or, without a folder for their
        names, remove one again."""
        script = self.folder / 'load.lua'
        spec = {**self.spec, 'name': '%s'}
        head = (f'BODY = {json.dumps(json.dumps(spec))}\nPAGE, ONE, TAG = "{PAGE}", "/v1/vms/machine-0", "{time.time_ns()}"\n'
                f'wrk.headers["Authorization"] = "Bearer {self.key}"\nwrk.headers["Content-Type"] = "application/json"\n')
        script.write_text(head + SCRIPT)
        return subprocess.Popen(['wrk', '--threads', '2', '--connections', str(clients), '--duration', f'{seconds}s', '--timeout', '10s',
                                 '--latency', '--script', script, f'https://127.0.0.1:{self.port}', '--', str(share), *([folder] if folder else [])],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def kill(self):
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()

    def stop(self):
        if self.child and self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()


def counted(wrk):
    """What wrk's script counted, once it is done."""
    said, errors = wrk.communicate()
    lines = [line for line in errors.splitlines() if line.startswith('{')]
    if wrk.returncode != 0 or not lines:
        raise RuntimeError(f'wrk: {said} {errors}')
    return json.loads(lines[-1])


def under_load(debvisor, folder, environment, list_seconds, mixed_seconds, killed_after):
    """Lists alone, then a mixture, then a mixture in whose midst the server is killed. Returns what each gave."""
    server = Server(debvisor, folder, environment)
    try:
        server.prepare()
        with server.open(PAGE) as answer:
            size = len(answer.read())
        counted(server.wrk(16, 1, 0))
        lists = counted_lists(server, list_seconds)
        begin, sizes, over = server.resident_mib(), [], threading.Event()

        def watch():
            while not over.wait(0.5):
                sizes.append(server.resident_mib())

        watching = threading.Thread(target=watch)
        watching.start()
        mixed = counted(server.wrk(200, mixed_seconds, 0.1))
        over.set()
        watching.join()
        half = len(sizes) // 2
        memory = {'before': begin, 'first_half': max(sizes[:half]), 'second_half': max(sizes[half:])}

        wrk = server.wrk(200, killed_after + 2, 0.1, server.folder)
        time.sleep(killed_after)
        server.kill()
        counted(wrk)
        again = server.up()
        promised = {line for file in server.folder.glob('acknowledged-*') for line in file.read_text().splitlines()}
        lost = promised - server.names()
        server.ask('audit', 'verify')
        return {'page_bytes': size, 'lists': lists, 'mixed': mixed, 'memory': memory,
                'killed': {'acknowledged': len(promised), 'lost': len(lost), 'ready_seconds': again}}
    finally:
        server.stop()


def counted_lists(server, seconds):
    """Lists of a hundred machines per second, by wrk without a script of ours in its way."""
    done = subprocess.run(['wrk', '--threads', '1', '--connections', '16', '--duration', f'{seconds}s', '--latency',
                           '--header', f'Authorization: Bearer {server.key}', f'https://127.0.0.1:{server.port}{PAGE}'],
                          capture_output=True, text=True, check=True).stdout
    if 'Non-2xx' in done or 'Socket errors' in done:
        raise RuntimeError(done)
    return {'per_second': float(re.search(r'Requests/sec:\s+([\d.]+)', done).group(1))}



def aims_and_section(found, libvirt, met):
    """What the document says of it: rows for its table of aims, and a section."""
    lists, mixed, memory, killed = (found[name] for name in ('lists', 'mixed', 'memory', 'killed'))
    statuses = {int(status): count for status, count in mixed['statuses'].items()}
    refused = sum(count for status, count in statuses.items() if status not in (200, 201, 202, 429)) + sum(mixed['lost'].values())
    grown = memory['second_half'] / memory['first_half']
    aims = [
        f'| 5,000 authorised lists of {MACHINES} machines per second | {lists["per_second"]:,.0f} | {met(lists["per_second"] >= 5000)} |',
        f'| 200 clients at once see no error but 429 | {refused} others of {mixed["requests"]:,} | {met(refused == 0)} |',
        f'| its memory is bounded: the second half of that time beside the first | {grown:.2f} | {met(grown <= 1.1)} |',
        f'| a kill -9 under that load loses no acknowledged write | {killed["lost"]} of {killed["acknowledged"]:,} | '
        f'{met(killed["lost"] == 0 and killed["acknowledged"] > 0)} |',
    ]
    beside = f'| libvirt, `virsh list --all --name` over {MACHINES} domains, two connections of many lists | '
    beside += f'{libvirt:,.0f} |' if isinstance(libvirt, float) else f'not measured: {libvirt} |'
    answers = ', '.join(f'{count:,} of {status}' for status, count in sorted(statuses.items()))
    return aims, [
        '## The interface under load',
        '',
        f'A server over TLS 1.3 with {MACHINES} machines and {CORES} cores, which it shares with wrk. Each request carries an API key. '
        f'A list is {found["page_bytes"] / 1024:.0f} KiB of JSON; libvirt\'s holds names alone, over a unix socket.',
        '',
        '| lists | per second |',
        '|---|---|',
        f'| debvisor, `GET {PAGE}`, 16 connections | {lists["per_second"]:,.0f} |',
        beside,
        '',
        f'Then 200 connections for {mixed["seconds"]:.0f} s: of ten requests one describes a machine or removes one again (row, audit record and '
        'event are on the disk before the answer), two or three ask for one machine, the others for the list.',
        '',
        '| requests per second | half within | 99 % within | the slowest | answers | memory before | at most |',
        '|---|---|---|---|---|---|---|',
        f'| {mixed["requests"] / mixed["seconds"]:,.0f} | {mixed["p50_ms"]:.0f} ms | {mixed["p99_ms"]:.0f} ms | {mixed["max_ms"]:.0f} ms | {answers} | '
        f'{memory["before"]:.0f} MiB | {max(memory["first_half"], memory["second_half"]):.0f} MiB |',
        '',
        f'Then the same without removing, and in its midst the server is killed: {killed["acknowledged"]:,} machines had been acknowledged, {killed["lost"]} of them '
        f'were missing when it was ready again {killed["ready_seconds"]:.1f} s after its start, and `debvisor audit verify` found the log whole.',
    ]
