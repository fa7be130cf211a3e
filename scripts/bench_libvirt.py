"""A libvirt of its own for the benchmarks to stand beside: one daemon below a folder, asked by virsh. For bench.py."""
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRIPT = ROOT / 'scripts/libvirt.sh'
ACTS = ('start_ms', 'pause_resume_ms', 'destroy_ms')
DOMAIN = """<domain type='qemu'>
  <name>bench</name><memory unit='MiB'>256</memory><vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <kernel>{folder}/kernel</kernel><initrd>{folder}/initrd</initrd><cmdline>console=ttyS0 quiet</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact' check='none'><model fallback='forbid'>qemu64</model></cpu>
  <devices>
    <controller type='pci' index='0' model='pcie-root'/>{ports}
    <controller type='usb' model='none'/>
    <controller type='scsi' model='virtio-scsi'/>
    <controller type='virtio-serial'/>
    <serial type='file'><source path='{folder}/console'/></serial>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <graphics type='vnc' socket='{folder}/vnc'/><video><model type='vga'/></video>
    <memballoon model='virtio'/><rng model='virtio'><backend model='builtin'/></rng><panic model='isa'/>
  </devices>
</domain>
"""


class Libvirt:
    """A running libvirtd; `folder` is where its user may read."""

    def __init__(self):
        if not (shutil.which('libvirtd') and shutil.which('virsh')):
            raise RuntimeError('libvirtd or virsh is not there')
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix='dv-bench-'))
        self.folder.chmod(0o711)
        self.daemon = None

    def __enter__(self):
        self.daemon = subprocess.Popen([SCRIPT, self.folder, 'libvirtd'], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for attempt in range(50):
            try:
                self.virsh('list')
                return self
            except RuntimeError:
                if attempt == 49 or self.daemon.poll() is not None:
                    self.__exit__()
                    raise
                time.sleep(0.2)
        raise AssertionError('the last attempt raises')

    def __exit__(self, *_):
        subprocess.run([SCRIPT, self.folder, 'virsh', 'destroy', 'bench'], capture_output=True)
        self.daemon.terminate()
        self.daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def virsh(self, *words):
        """One process of virsh; the seconds that it took."""
        start = time.perf_counter()
        done = subprocess.run([SCRIPT, self.folder, 'virsh', *words], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        took = time.perf_counter() - start
        if done.returncode != 0:
            raise RuntimeError(f'virsh ended with {done.returncode}: {done.stderr.strip()[-600:]}')
        return took


def acts(kernel, initrd, rounds):
    """Start to running, pause and resume, destroy, in milliseconds; and what virsh takes to ask for nothing."""
    with Libvirt() as libvirt:
        folder = libvirt.folder
        shutil.copy(kernel, folder / 'kernel')
        shutil.copy(initrd, folder / 'initrd')
        ports = ''.join(f"<controller type='pci' index='{n}' model='pcie-root-port'/>" for n in range(1, 17))
        (folder / 'domain.xml').write_text(DOMAIN.format(folder=folder, ports=ports))
        (folder / 'console').touch()
        if os.geteuid() == 0:  # the daemon is nobody then
            shutil.chown(folder / 'console', 65534, 65534)
        times = {act: [] for act in (*ACTS, 'nothing_ms')}
        for number in range(rounds + 1):
            run = {'start_ms': libvirt.virsh(f'define {folder}/domain.xml; start bench') * 1000}
            time.sleep(0.3)
            run['pause_resume_ms'] = libvirt.virsh('suspend bench; resume bench') * 1000
            run['destroy_ms'] = libvirt.virsh('destroy bench') * 1000
            libvirt.virsh('undefine bench')
            run['nothing_ms'] = libvirt.virsh('version') * 1000
            if number > 0:  # at the first, libvirt asks QEMU what it can do
                for act, took in run.items():
                    times[act].append(took)
        return {act: statistics.median(took) for act, took in times.items()}


def lists_per_second(machines, clients, lists):
    """Lists of so many defined machines per second: clients at once, each one virsh that asks so often on one connection."""
    with Libvirt() as libvirt:
        for number in range(machines):
            described = f"<domain type='qemu'><name>machine-{number}</name><memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>"
            (libvirt.folder / 'domain.xml').write_text(described)
            libvirt.virsh(f'define {libvirt.folder}/domain.xml')
        asked = '; '.join(['list --all --name'] * lists)
        libvirt.virsh(asked)
        start = time.perf_counter()
        running = [subprocess.Popen([SCRIPT, libvirt.folder, 'virsh', asked], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
                   for _ in range(clients)]
        if any(child.wait() for child in running):
            raise RuntimeError('a virsh failed')
        return clients * lists / (time.perf_counter() - start)
