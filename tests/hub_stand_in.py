"""A stand-in for the Hugging Face Hub's HTTP API: what its real client asks for to write and read data sets.

It keeps repositories in memory, takes commits and LFS uploads as the Hub does, and notes every request.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN, READER = "hf_writes", "hf_reads"
LICENSES = ("apache-2.0", "cc-by-4.0", "mit", "other")


@dataclass
class Repo:
    """A repository: whether it is private, its files, and how often it was committed to."""

    private: bool
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b"*.parquet filter=lfs"})
    lfs: set[str] = field(default_factory=set)
    commits: int = 0

    @property
    def sha(self) -> str:
        return hashlib.sha1(f"{self.commits}".encode()).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        data = self.files[path]
        said = {"type": "file", "oid": blob(data), "size": len(data), "path": path}
        if path in self.lfs:
            sha256 = hashlib.sha256(data).hexdigest()
            said["lfs"] = {"oid": sha256, "size": len(data), "pointerSize": 127}
        return said


@dataclass
class Hub:
    """The state of the stand-in; commits to the repository `fails_at` answer 500."""

    port: int = 0
    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    fails_at: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def blob(data: bytes) -> str:
    """Git's name of a file's bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Answers:
    """What the Hub answers, by method and path."""

    def __init__(self, hub: Hub, token: str, body: bytes) -> None:
        self.hub, self.token, self.body = hub, token, body

    @property
    def said(self) -> Any:
        return json.loads(self.body)

    def whoami(self) -> Any:
        if self.token not in (TOKEN, READER):
            return 401, {"error": "Invalid username or password."}
        role = "write" if self.token == TOKEN else "read"
        return {"type": "user", "name": "org", "orgs": [], "auth": {"accessToken": {"role": role}}}

    def validate(self) -> Any:
        found = re.search(r"^license: (\S+)$", self.said["content"], re.M)
        if found and found[1] not in LICENSES:
            return 400, {"errors": [{"message": '"license" must be one of the licenses'}], "warnings": []}
        return {"errors": [], "warnings": []}

    def create(self) -> Any:
        name = f"{self.said.get('organization') or 'org'}/{self.said['name']}"
        if self.token != TOKEN or not name.startswith("org/"):
            return 403, {"error": f"You don't have the rights to create a dataset under {name}"}
        if name in self.hub.repos:
            return 409, {"error": "You already created this dataset repo", "url": self.page(name)}
        self.hub.repos[name] = Repo(
            self.said["visibility"] == "private", {".gitattributes": b"*.parquet filter=lfs\n"}
        )
        return {"url": self.page(name), "id": name, "name": name}

    def page(self, name: str) -> str:
        return f"{self.hub.url}/datasets/{name}"

    def can_write(self, name: str) -> Any:
        return {} if self.token == TOKEN else (403, {"error": "no write access"})

    def info(self, name: str, revision: str = "") -> Any:
        repo = self.hub.repos[name]
        siblings = [{"rfilename": path} for path in sorted(repo.files)]
        said = {"id": name, "_id": "1", "private": repo.private, "sha": repo.sha, "siblings": siblings}
        return {**said, "lastModified": "2026-01-01T00:00:00.000Z", "tags": [], "downloads": 0, "likes": 0}

    def preupload(self, name: str, revision: str) -> Any:
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".parquet") else "regular",
                "shouldIgnore": False,
                "oid": self.oid(name, file["path"]),
            }
            for file in self.said["files"]
        ]
        return {"files": modes}

    def oid(self, name: str, path: str) -> str | None:
        repo = self.hub.repos[name]
        if path not in repo.files:
            return None
        data = repo.files[path]
        return hashlib.sha256(data).hexdigest() if path in repo.lfs else blob(data)

    def batch(self, name: str) -> Any:
        objects = [
            {
                **item,
                **(
                    {}
                    if item["oid"] in self.hub.objects
                    else {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{item['oid']}", "header": {}}}}
                ),
            }
            for item in self.said["objects"]
        ]
        return {"transfer": "basic", "objects": objects}

    def upload(self, oid: str) -> Any:
        if hashlib.sha256(self.body).hexdigest() != oid:
            return 400, {"error": "not these bytes"}
        self.hub.objects[oid] = self.body
        return {}

    def commit(self, name: str, revision: str) -> Any:
        repo = self.hub.repos[name]
        for line in self.body.splitlines():
            said = json.loads(line)
            match said["key"], said["value"]:
                case "file", value:
                    repo.files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile", value:
                    repo.files[value["path"]] = self.hub.objects[value["oid"]]
                    repo.lfs.add(value["path"])
                case "deletedFile", value:
                    del repo.files[value["path"]]
        repo.commits += 1
        url = f"{self.page(name)}/commit/{repo.sha}"
        return {"success": True, "commitOid": repo.sha, "commitUrl": url, "hookOutput": ""}

    def tree(self, name: str, revision: str, folder: str = "") -> Any:
        repo, inside = self.hub.repos[name], f"{folder}/" if folder else ""
        files = [repo.entry(path) for path in sorted(repo.files) if path.startswith(inside)]
        parts = [path.removeprefix(inside).split("/")[:-1] for path in repo.files if path.startswith(inside)]
        folders = {inside + "/".join(part[:depth]) for part in parts for depth in range(1, len(part) + 1)}
        return [{"type": "directory", "oid": "0" * 40, "size": 0, "path": p} for p in sorted(folders)] + files

    def paths_info(self, name: str, revision: str) -> Any:
        repo = self.hub.repos[name]
        asked = self.said["paths"]
        found = [repo.entry(path) for path in asked if path in repo.files]
        folders = [p for p in asked if p and any(path.startswith(f"{p}/") for path in repo.files)]
        return found + [{"type": "directory", "oid": "0" * 40, "size": 0, "path": p} for p in folders]

    def resolve(self, name: str, revision: str, path: str) -> Any:
        repo = self.hub.repos[name]
        return repo.files.get(path, (404, {"error": "Entry not found"}))


NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
ROUTES = [
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("POST", r"/api/repos/create", "create"),
    ("GET", rf"/api/datasets/{NAME}/auth-check/write", "can_write"),
    ("POST", rf"/api/datasets/{NAME}/preupload/(?P<revision>[^/]+)", "preupload"),
    ("POST", rf"/datasets/{NAME}\.git/info/lfs/objects/batch", "batch"),
    ("PUT", r"/lfs/(?P<oid>\w+)", "upload"),
    ("POST", rf"/api/datasets/{NAME}/commit/(?P<revision>[^/]+)", "commit"),
    ("GET", rf"/api/datasets/{NAME}/tree/(?P<revision>[^/]+)(/(?P<folder>.+))?", "tree"),
    ("POST", rf"/api/datasets/{NAME}/paths-info/(?P<revision>[^/]+)", "paths_info"),
    ("GET", rf"/api/datasets/{NAME}/revision/(?P<revision>[^/]+)", "info"),
    ("GET", rf"/api/datasets/{NAME}", "info"),
    ("GET", rf"/datasets/{NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
]


def answer(hub: Hub, method: str, url: str, token: str, body: bytes) -> tuple[int, Any]:
    """The status and the answer to a request; HEAD is answered as GET."""
    path = unquote(urlsplit(url).path)
    hub.asked.append(f"{method} {path}")
    for asked, pattern, name in ROUTES:
        found = re.fullmatch(pattern, path)
        if found and asked == ("GET" if method == "HEAD" else method):
            repo = found.groupdict().get("name")
            if name == "commit" and repo == hub.fails_at:
                return 500, {"error": "Internal Error"}
            is_hidden = repo and (repo not in hub.repos or (hub.repos[repo].private and not token))
            if is_hidden:
                return 404, {"error": "Repository not found"}
            given = {k: v for k, v in found.groupdict().items() if v is not None}
            said = getattr(Answers(hub, token, body), name)(**given)
            return said if isinstance(said, tuple) else (200, said)
    return 404, {"error": "Entry not found"}


class Handler(BaseHTTPRequestHandler):
    """HTTP around `answer`."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = self._chunks()
        status, said = answer(self.hub, self.command, self.path, token, body)
        data = said if isinstance(said, bytes) else json.dumps(said).encode()
        if found := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            status, first = 206, int(found[1])
            whole, data = len(data), data[first : int(found[2] or len(data)) + 1]
            self.send_response(status)
            self.send_header("Content-Range", f"bytes {first}-{first + len(data) - 1}/{whole}")
        else:
            self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self._say_what(status, said)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _say_what(self, status: int, said: Any) -> None:
        """The headers of a file, or of an error."""
        if isinstance(said, bytes):
            self.send_header("ETag", f'"{hashlib.sha256(said).hexdigest()}"')
            self.send_header("X-Repo-Commit", next(iter(self.hub.repos.values())).sha)
            self.send_header("Accept-Ranges", "bytes")
            return
        self.send_header("Content-Type", "application/json")
        if status == 404:
            self.send_header(
                "X-Error-Code", "RepoNotFound" if "Repository" in said["error"] else "EntryNotFound"
            )
        if status >= 400:
            self.send_header("X-Error-Message", str(said.get("error", "")))

    def _chunks(self) -> bytes:
        data = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _serve  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def hub() -> Iterator[Hub]:
    """Serve in threads, at hub.url."""
    state = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": state}))
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
