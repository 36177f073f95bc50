"""What kind of file system holds the state file: what SQLite and inodes can be trusted with depends on it."""

from __future__ import annotations

from pathlib import Path

_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre"})


def file_system(path: Path) -> str:
    """Return the kind of file system that holds the path ("ext4", "nfs4"); "" where the system does not say."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
        where = str(path.resolve().parent)
    except OSError:
        return ""
    best, kind = "", ""
    for line in lines:
        fields = line.split(" ")
        mount = fields[1].replace("\\040", " ") if len(fields) > 2 else ""
        inside = mount and (where == mount or where.startswith(mount.rstrip("/") + "/"))
        if inside and len(mount) >= len(best):
            best, kind = mount, fields[2]
    return kind


def on_network(path: Path) -> bool:
    """Whether the path stands on a network file system."""
    return file_system(path) in _NETWORK_FILE_SYSTEMS
