"""The 23 steps as a pyinfra deploy."""

import io

from pyinfra import host
from pyinfra.facts.files import File
from pyinfra.facts.server import Command
from pyinfra.operations import apt, files, server, systemd

data = host.data


def text(content, dest, mode="644"):
    return files.put(src=io.StringIO(content), dest=dest, mode=mode, user="root", group="root", create_remote_dir=True)


server.hostname(hostname=host.name)
files.block(path="/etc/hosts", content=data.hosts_lines)
files.link(path="/etc/localtime", target="/usr/share/zoneinfo/Europe/Berlin", force=True, force_backup=False)
text("Europe/Berlin\n", "/etc/timezone")
server.locale(locale="en_GB.UTF-8")
text("LANG=en_GB.UTF-8\n", "/etc/default/locale")
apt.packages(
    packages=["htop", "jq", "nano", "rsync", "tree", "unzip"], update=True, cache_time=86400, no_recommends=True
)
removable = host.get_fact(Command, command="apt-get -s autoremove | grep -c ^Remv || :")
if removable and removable.strip() != "0":
    server.shell(commands=["apt-get -q -y autoremove"])
files.line(path="/boot/firmware/config.txt", line="^gpu_mem=.*", replace="gpu_mem=16")
files.line(path="/boot/firmware/config.txt", line="^arm_64bit=.*", replace="arm_64bit=1")
arguments = host.get_fact(Command, command="head -n 1 /boot/firmware/cmdline.txt").split()
for token in ["cgroup_enable=memory", "cgroup_memory=1"]:
    if token not in arguments:
        server.shell(commands=[f"sed -i '1s/$/ {token}/' /boot/firmware/cmdline.txt"])
if len(host.get_fact(Command, command="cat /proc/swaps").splitlines()) > 1:
    server.shell(commands=["swapoff -a"])
files.replace(path="/etc/fstab", text=r"^\([^#].*[[:space:]]swap[[:space:]].*\)$", replace=r"# \1")
text("overlay\nbr_netfilter\n", "/etc/modules-load.d/w23.conf")
missing = host.get_fact(
    Command, command="grep -qw overlay /proc/filesystems || echo overlay; [ -d /proc/sys/net/bridge ] || echo br_netfilter"
)
for module in (missing or "").split():
    server.modprobe(module=module)
sysctls = {
    "net.ipv4.ip_forward": 1,
    "net.bridge.bridge-nf-call-iptables": 1,
    "net.bridge.bridge-nf-call-ip6tables": 1,
    "vm.swappiness": 10,
}
text("".join(f"{key} = {value}\n" for key, value in sysctls.items()), "/etc/sysctl.d/90-w23.conf")
for key, value in sysctls.items():
    server.sysctl(key=key, value=value)
sshd = text(
    "ClientAliveInterval 60\nLoginGraceTime 30\nMaxAuthTries 4\nMaxSessions 20\nPasswordAuthentication no\n"
    "PermitEmptyPasswords no\nPermitRootLogin no\nX11Forwarding no\n",
    "/etc/ssh/sshd_config.d/00-w23.conf",
)
server.shell(commands=["sshd -t", "systemctl restart ssh"], _if=sshd.did_change)
sudoers = text("Defaults timestamp_timeout=5\n", "/etc/sudoers.d/w23", "440")
server.shell(commands=["visudo -cq"], _if=sudoers.did_change)
text(
    'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]\n  SystemdCgroup = true\n',
    "/etc/containerd/config.toml",
)
text(
    'mirrors:\n  docker.io:\n    endpoint: ["http://mirror.home:5000"]\n', "/etc/rancher/k3s/registries.yaml"
)
text('write-kubeconfig-mode: "0600"\ndisable: [servicelb]\n', "/etc/rancher/k3s/config.yaml", "600")
held = (host.get_fact(Command, command="apt-mark showhold") or "").split()
if not {"jq", "rsync", "tree"} <= set(held):
    server.shell(commands=["apt-mark hold jq rsync tree"])
systemd.service(service="cron", running=True, enabled=True)
host.get_fact(File, path="/run/reboot-required")
files.download(src=data.url, dest="/usr/local/share/fetched", sha256sum=data.digest, mode="644")
# pyinfra knows a reboot by the uptime, which a container shares with its machine: the harness boots the boards.
