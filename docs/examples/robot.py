#!/usr/bin/env python3
"""A complete robot in one file: enrols once, then holds its session for good. docs/protocol.md says why.
Needs Python 3.8 and websockets 10, or newer (Debian: apt-get install python3-websockets):
BEACON_ENROLLMENT_KEY=rf_enroll_... ./robot.py --server https://beacon.example.com --state ./my-robot"""
import argparse, asyncio, collections, contextlib, hashlib, http.client, inspect, json, os, platform, random, re
import secrets, signal, sys, time, urllib.parse, uuid, zlib
from datetime import datetime, timezone
import websockets

IS_NEW = "additional_headers" in inspect.signature(websockets.connect).parameters
HEADERS = "additional_headers" if IS_NEW else "extra_headers"
# What a refused claim ends with. 3: the credential is refused for good, 5: somebody else is this robot.
FINAL = {400: 1, 413: 1, 415: 1, 422: 1, 401: 3, 403: 3, 409: 5}
def log(text): print(ascii(text)[1:-1], file=sys.stderr, flush=True)  # No control characters of a server.
def sha256(text): return hashlib.sha256(text.encode()).hexdigest()
def new_token():
    body = "rf_robot_" + secrets.token_hex(32)
    return f"{body}{zlib.crc32(body.encode()):08x}"

def pause(attempt, headers, reason=""):
    after = re.fullmatch("[0-9]{1,9}", headers.get("Retry-After") or "")
    asked = re.search(r"\breconnect_in_ms=([0-9]{1,9})\b", reason)
    if after or asked:
        return min(3600, int(after[0]) + random.random() if after else int(asked[1]) / 1000)
    return random.uniform(0, min(60, 2 ** min(attempt, 6)))  # Full jitter: a fleet must not return as one.

def post(url, bearer, body):  # Follows no redirect: the credential is for this address alone.
    parts = urllib.parse.urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection, headers = kind(parts.hostname, parts.port, timeout=15), {"Content-Type": "application/json"}
    connection.request("POST", parts.path, json.dumps(body), {**headers, "Authorization": f"Bearer {bearer}"})
    answer = connection.getresponse()
    return answer.status, answer.headers, dict(json.loads(answer.read(65536)))

class Robot:
    def __init__(self, folder):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self.folder, self.path = os.open(folder, os.O_RDONLY), os.path.join(folder, "robot.json")
        self.state = json.load(open(self.path)) if os.path.exists(self.path) else {}
        self.waiting = collections.deque(self.state.pop("waiting", []), maxlen=10_000)  # (seq, frame) without ack.
        self.seq = max(self.state.get("seq_mark", 0), int(time.time() * 1000))  # No number twice, if one is lost.
        self.interval, self.socket, self.refused = 10, None, set()

    def save(self, **changes):  # For its owner alone, whole or not at all, and there after a power cut.
        self.state.update(changes)
        with open(os.open(self.path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            print(json.dumps(self.state), file=file, flush=True)
            os.fsync(file.fileno())
        os.replace(self.path + ".new", self.path)
        os.fsync(self.folder)

    def enrol(self, server, key, name):
        if "token" not in self.state:  # Kept before it is sent: after a crash the same claim is made again.
            self.save(token=new_token(), claim_id=str(uuid.uuid4()))
        claim = {"claim_id": self.state["claim_id"], "token_hash": sha256(self.state["token"]), "name": name}
        for attempt in range(sys.maxsize):
            try:
                status, headers, answer = post(server.rstrip("/") + "/agent/enroll", key, claim)
                if status in (200, 201):
                    return self.save(robot_id=answer["robot_id"], gateway_url=answer["gateway_url"])
            except Exception as error:  # Nobody there, or no control plane: never the end.
                status, headers, answer = 0, {}, {"detail": repr(error)}
            log(f"not enrolled: {answer.get('detail')} ({answer.get('code') or status})")
            if status in FINAL and answer.get("code") not in (None, "request_in_progress"):
                sys.exit(FINAL[status])
            time.sleep(pause(attempt, headers))

    async def beat(self):
        while True:
            self.seq, began = self.seq + 1, time.monotonic()
            if self.seq >= self.state.get("seq_mark", 0):
                with contextlib.suppress(OSError):  # A full disk: the clock keeps numbers apart.
                    self.save(seq_mark=self.seq + 1000)
            at = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            frame = {"type": "heartbeat", "seq": self.seq, "at": at, "system": {"load_1m": os.getloadavg()[0]}}
            self.waiting.append((self.seq, json.dumps(frame)))
            while time.monotonic() < began + self.interval:  # At most 50 a second: a long backlog must not fall upon the server.
                seq, text = next((held for held in self.waiting if self.socket and held[0] > self.sent), (0, ""))
                if text:
                    with contextlib.suppress(websockets.ConnectionClosed):
                        self.sent = seq
                        await self.socket.send(text)
                await asyncio.sleep(0.02 if text else min(0.2, self.interval / 5))

    async def talk(self, socket, token):  # Until it is time to come back with the next token.
        resume_seq = self.waiting[0][0] if self.waiting else self.seq + 1
        await socket.send(json.dumps({"type": "hello", "protocol": 1, "resume_seq": resume_seq}))
        while True:
            frame = json.loads(await (socket.recv() if self.socket else asyncio.wait_for(socket.recv(), 15)))
            kind, following = frame["type"], self.state.get("next_token")
            if kind in ("welcome", "settings"):
                self.interval = min(3600, max(0.1, frame["heartbeat_interval_ms"] / 1000))
            if kind == "welcome":  # Also when it was approved: what was not taken before goes out again.
                self.opened, self.socket, self.sent = self.opened or time.monotonic(), socket, -1
                if following and (token == following or following in self.refused):
                    self.save(token=token, next_token=None)
                log(f"session {frame['session_no']} of {frame['name']}, {frame['lifecycle']}")
            elif kind == "ack":
                while self.waiting and self.waiting[0][0] <= frame["seq"]:
                    self.waiting.popleft()
            elif kind == "rotate_token":  # Both are kept until a session shows which one counts.
                self.save(next_token=following or new_token())
                await socket.send(json.dumps({"type": "token_rotated", "token_hash": sha256(self.state["next_token"])}))
            elif kind == "token_rotation_ack" and following and frame["token_hash"] == sha256(following):
                return
            elif kind in ("error", "drain"):  # The close after a drain names the same delay.
                log(f"the server says {frame}")

    async def run(self):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
        beating, attempt = asyncio.ensure_future(self.beat()), -1
        while True:
            self.socket, self.opened, following = None, None, self.state.get("next_token")
            token = following if following and following not in self.refused else self.state["token"]
            options = {HEADERS: {"Authorization": f"Bearer {token}"}, "compression": None, "max_size": 65536}
            try:
                async with websockets.connect(self.state["gateway_url"], subprotocols=["beacon.v1"], **options) as socket:
                    try:
                        await self.talk(socket, token)
                        headers, reason = {}, "reconnect_in_ms=0"
                    except asyncio.CancelledError:
                        await socket.send(json.dumps({"type": "bye", "reason": "shutdown"}))
                        raise
            except Exception as error:  # Where it is, and what it has, depends on the version of websockets.
                closed, answer = getattr(error, "rcvd", None), getattr(error, "response", error)
                code, reason = (closed.code, closed.reason) if closed else (0, "")
                status, headers = getattr(answer, "status_code", 0), getattr(answer, "headers", {})
                refused = status == 401 and "problem+json" in headers.get("Content-Type", "")  # By nothing between.
                log(f"no session: {error!r}")
                if 4500 <= code <= 4999 or (refused and token == self.state["token"]):
                    sys.exit(5 if code == 4510 else 3)
                self.refused.update([token] if refused else [])
            attempt = 0 if self.opened and time.monotonic() - self.opened > 30 else attempt + 1
            await asyncio.sleep(pause(attempt, headers, reason))

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A robot that enrols with Beacon and beats.")
    for flag in ("--server", "--state", "--name", "--enrollment-key-file"):
        parser.add_argument(flag, required=flag == "--state")
    args = parser.parse_args()
    robot = Robot(args.state)
    if "robot_id" not in robot.state:
        key = open(args.enrollment_key_file).read() if args.enrollment_key_file else os.getenv("BEACON_ENROLLMENT_KEY")
        if not key or not args.server:
            parser.error("to enrol it needs --server and --enrollment-key-file or BEACON_ENROLLMENT_KEY")
        robot.enrol(args.server, key.strip(), args.name or platform.node()[:63])
    try:
        asyncio.run(robot.run())
    except asyncio.CancelledError:  # SIGTERM: what nobody acknowledged goes out after the next start.
        robot.save(waiting=list(robot.waiting))
