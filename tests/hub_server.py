"""A small Hub on the loopback interface, for tests: the HTTP routes by which files go up and come down, and nothing else.

It keeps what is pushed in memory, checks tokens, notes every request, and fails when it is told to.
"""

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

WRITER, READER = "hf_aWriterTokenThatMustNeverBeSeen", "hf_aReaderTokenThatMustNeverBeSeen"
STORE = "xet_aTokenForTheStoreOfChunksAlone"
NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
Route = tuple[str, re.Pattern[str], Callable[..., None]]


@dataclass
class Repository:
    """One branch, `main`, of files, and the commits that led to it."""

    private: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[dict[str, bytes]] = field(default_factory=list)

    @property
    def sha(self) -> str:
        """The last commit; 40 hexadecimal digits, as everywhere in git."""
        return f"{len(self.commits):040x}"

    def at(self, revision: str) -> dict[str, bytes] | None:
        """The files of `main` or of a commit."""
        if revision == "main":
            return self.files
        number = int(revision, 16) if re.fullmatch("[0-9a-f]{40}", revision) else 0
        return self.commits[number - 1] if 0 < number <= len(self.commits) else None


@dataclass
class Fault:
    """How the next requests to a route go wrong."""

    route: str
    status: int = 500
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    after: int | None = None
    """Drop the connection after so many bytes, instead of an answer with a status."""


class HubServer(ThreadingHTTPServer):
    """The state behind all connections."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[str, Repository] = {}
        self.large_files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.faults: list[Fault] = []

    def count(self, method: str, part: str) -> int:
        """How many requests of a method had something in their path."""
        return sum(one == method and part in path for one, path, _ in self.requests)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news."""


class HubHandler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: HubServer

    def handle_any(self) -> None:
        """Note the request, fail if told to, and find its route."""
        self.body = self.read_body()
        path = urlsplit(self.path).path
        self.server.requests.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
        for method, pattern, action in ROUTES:
            found = pattern.fullmatch(path)
            if method == self.command and found:
                self.fault = self.next_fault(action.__name__)
                if self.fault and self.fault.after is None:
                    self.answer({"error": "as told"}, self.fault.status, self.fault.headers)
                else:
                    action(self, **found.groupdict())
                return
        self.missing("EntryNotFound")

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def read_body(self) -> bytes:
        """What was sent, whole or, as files are, in chunks that each say how long they are."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def next_fault(self, route: str) -> Fault | None:
        """What is to go wrong now, once for each time it was asked for."""
        for fault in self.server.faults:
            if fault.route == route and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    @property
    def token(self) -> str | None:
        """The account behind a request."""
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def may_write(self) -> bool:
        """Check the token of a request that changes something, and refuse it otherwise."""
        if self.token not in (WRITER, READER):
            self.answer({"error": "Invalid username or password."}, 401)
        elif self.token == READER:
            self.answer({"error": "You don't have the rights"}, 403, {"X-Error-Message": "You don't have the rights"})
        return self.token == WRITER

    def repository(self, name: str) -> Repository | None:
        """Find a repository that the client may see, and say so when there is none."""
        found = self.server.repositories.get(name)
        if found is None or (found.private and self.token not in (WRITER, READER)):
            self.missing("RepoNotFound")
            return None
        return found

    def create(self) -> None:
        """POST /api/repos/create"""
        if not self.may_write():
            return
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        status = 409 if name in self.server.repositories else 200
        self.server.repositories.setdefault(name, Repository(private=asked.get("visibility") == "private"))
        self.answer({"url": f"{self.server.url}/{name}", "name": name}, status)

    def validate_yaml(self) -> None:
        """POST /api/validate-yaml"""
        self.answer({"errors": [], "warnings": []})

    def info(self, name: str, revision: str = "main") -> None:
        """GET /api/models/NAME[/revision/REVISION]"""
        repository = self.repository(name)
        files = repository.at(revision) if repository else None
        if repository and files is None:
            self.missing("RevisionNotFound")
        elif repository and files is not None:
            siblings = [{"rfilename": path} for path in files]
            card = {"license": "apache-2.0"} if b"license: apache-2.0" in files.get("README.md", b"") else {}
            self.answer({"id": name, "sha": repository.sha, "siblings": siblings, "cardData": card})

    def preupload(self, name: str, revision: str) -> None:
        """POST /api/models/NAME/preupload/REVISION: which files are large."""
        if self.may_write() and self.repository(name):
            asked = json.loads(self.body)["files"]
            modes = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for one in asked
            ]
            self.answer({"files": modes})

    def large_files(self, name: str) -> None:
        """POST /NAME.git/info/lfs/objects/batch: where large files go; no action for those that are here."""
        if self.may_write() and self.repository(name):
            objects = [{"oid": one["oid"], "size": one["size"]} for one in json.loads(self.body)["objects"]]
            for one in objects:
                if one["oid"] not in self.server.large_files:
                    one["actions"] = {"upload": {"href": f"{self.server.url}/lfs/{one['oid']}"}}
            self.answer({"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        """PUT /lfs/OID"""
        if self.fault:
            self.drop()
            return
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.server.large_files[oid] = self.body
        self.answer({})

    def xet_token(self, name: str, revision: str) -> None:
        """GET /api/models/NAME/xet-write-token/REVISION: where the store of chunks is, and a token for it alone."""
        if self.may_write() and self.repository(name):
            self.answer({"casUrl": f"{self.server.url}/store", "exp": int(time.time()) + 3600, "accessToken": STORE})

    def chunks(self) -> None:
        """POST /store/v1/xorbs/default/HASH: pieces of one file, each behind eight bytes of which three are its length."""
        content, rest = b"", self.body
        while rest:
            length, compression = int.from_bytes(rest[1:4], "little"), rest[4]
            assert compression == 0, "the tests send what cannot be compressed"
            content, rest = content + rest[8 : 8 + length], rest[8 + length :]
        self.server.large_files[hashlib.sha256(content).hexdigest()] = content
        self.answer({"was_inserted": True})

    def shard(self) -> None:
        """POST /store/v1/shards: which chunks make which file."""
        self.answer({"result": 1})

    def commit(self, name: str, revision: str) -> None:
        """POST /api/models/NAME/commit/REVISION: one line a file."""
        if not self.may_write() or not (repository := self.repository(name)):
            return
        if revision != "main":
            self.missing("RevisionNotFound")
            return
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository.files[value["path"]] = self.server.large_files[value["oid"]]
        repository.commits.append(dict(repository.files))
        url = f"{self.server.url}/{name}"
        self.answer(
            {
                "commitUrl": f"{url}/commit/{repository.sha}",
                "commitOid": repository.sha,
                "pullRequestUrl": f"{url}/discussions/1",
            }
        )

    def resolve(self, name: str, revision: str, path: str) -> None:
        """HEAD and GET /NAME/resolve/REVISION/PATH, from any byte on."""
        if not (repository := self.repository(name)):
            return
        files = repository.at(revision)
        if files is None or path not in files:
            headers = {"X-Repo-Commit": repository.sha} if files is not None else {}
            self.missing("RevisionNotFound" if files is None else "EntryNotFound", headers)
            return
        content = files[path]
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        commit = repository.sha if revision == "main" else revision
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.answer(content[start:], 206 if start else 200, headers)

    def missing(self, code: str, headers: dict[str, str] | None = None) -> None:
        """404, and what is missing."""
        self.answer({"error": code}, 404, {"X-Error-Code": code} | (headers or {}))

    def answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Send JSON or bytes; hang up in the middle when told to."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            fault = getattr(self, "fault", None)
            self.wfile.write(body[: fault.after] if fault and fault.after is not None else body)
            if fault and fault.after is not None:
                self.drop()

    def drop(self) -> None:
        """Hang up."""
        self.close_connection = True
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


ROUTES: list[Route] = [
    (method, re.compile(path), action)
    for method, path, action in (
        ("POST", "/api/repos/create", HubHandler.create),
        ("POST", "/api/validate-yaml", HubHandler.validate_yaml),
        ("GET", f"/api/models/{NAME}", HubHandler.info),
        ("GET", f"/api/models/{NAME}/revision/(?P<revision>[^/]+)", HubHandler.info),
        ("POST", f"/api/models/{NAME}/preupload/(?P<revision>[^/]+)", HubHandler.preupload),
        ("POST", rf"/{NAME}\.git/info/lfs/objects/batch", HubHandler.large_files),
        ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", HubHandler.upload),
        ("GET", f"/api/models/{NAME}/xet-write-token/(?P<revision>[^/]+)", HubHandler.xet_token),
        ("POST", "/store/v1/xorbs/default/[0-9a-f]{64}", HubHandler.chunks),
        ("POST", "/store/v1/shards", HubHandler.shard),
        ("POST", f"/api/models/{NAME}/commit/(?P<revision>[^/]+)", HubHandler.commit),
        ("HEAD", f"/{NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", HubHandler.resolve),
        ("GET", f"/{NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", HubHandler.resolve),
    )
]


@contextmanager
def running_hub() -> Iterator[HubServer]:
    """Serve on a free port of the loopback interface inside the `with` block."""
    with HubServer() as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
