"""The decoder's child process: how it lives, dies and is killed, and what it is never let near."""

from __future__ import annotations

import http.server
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import media_factory as factory
from decode_factory import facts, frames
from duologue.schemas.errors import BadInput
from duologue.schemas.records import InputItem, Video
from duologue.transforms import decode_process
from duologue.transforms.decode import DecodeOptions, close, read_frames, warm
from duologue.transforms.probe import ProbeOptions, probe
from media_factory import Movie

BACKENDS = ("pyav", "decord", "ffmpeg")


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    factory.write_movie(folder / "plain.mp4", Movie())
    return folder


def test_a_read_can_be_left_early_and_the_child_lives_on(media: Path) -> None:
    close()
    video = facts(media / "plain.mp4")
    warm()
    before = decode_process._idle[0].pid
    for _ in range(3):
        with read_frames(str(media / "plain.mp4"), video, start_s=0, end_s=9) as reader:
            next(iter(reader))
    with pytest.raises(ZeroDivisionError):
        _fail_while_reading(media / "plain.mp4", video)
    with read_frames(str(media / "plain.mp4"), video, start_s=0, end_s=9):
        pass  # never iterated
    assert len(frames(media / "plain.mp4", video)[0]) == 100
    assert [c.pid for c in decode_process._idle] == [before]


def test_reads_may_be_nested(media: Path) -> None:
    video = facts(media / "plain.mp4")
    with read_frames(str(media / "plain.mp4"), video, start_s=0, end_s=9) as outer:
        numbers = []
        for frame in outer:
            if len(numbers) == 5:
                assert len(frames(media / "plain.mp4", video)[0]) == 100
            numbers.append(factory.read_number(frame.rgb))
    assert numbers == list(range(100))


def test_the_child_imports_no_heavy_library() -> None:
    code = (
        "import sys, duologue.transforms.decode_child;"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch','apache_beam','cv2','pyarrow','mediapipe',"
        "'decord','ffmpeg','scipy'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _fail_while_reading(path: Path, video: Video) -> None:
    with read_frames(str(path), video, start_s=0, end_s=9) as reader:
        for frame in reader:
            if frame.time_s > 1:
                raise ZeroDivisionError


def _signal_while_reading(media: Path, video: Video, number: int, pids: list[int], timeout_s: float) -> None:
    options = DecodeOptions(progress_timeout_s=timeout_s, slots=2)
    with read_frames(str(media / "plain.mp4"), video, start_s=0, end_s=9, options=options) as reader:
        for _ in reader:
            if not pids:
                pids.append(reader._child.pid)
                os.kill(pids[0], number)


def test_a_hanging_decoder_is_killed(media: Path) -> None:
    """The child is stopped by a signal, as a demuxer that spins would be: nothing comes any more."""
    video = facts(media / "plain.mp4")
    pids: list[int] = []
    with pytest.raises(BadInput) as caught:
        _signal_while_reading(media, video, signal.SIGSTOP, pids, 0.5)
    assert caught.value.reason == "decode_timeout"
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
    assert len(frames(media / "plain.mp4", video)[0]) == 100  # the next file gets a new child


def test_a_crash_of_the_decoder_costs_one_file(media: Path) -> None:
    video = facts(media / "plain.mp4")
    with pytest.raises(BadInput, match="signal 11") as caught:
        _signal_while_reading(media, video, signal.SIGSEGV, [], 60.0)
    assert caught.value.reason == "decode_failed"
    assert len(frames(media / "plain.mp4", video)[0]) == 100


def test_threads_read_side_by_side(media: Path) -> None:
    video = facts(media / "plain.mp4")
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: frames(media / "plain.mp4", video)[0], range(6)))
    assert all(len(r) == 100 and np.array_equal(r[57][1], results[0][57][1]) for r in results)
    assert len(decode_process._idle) == 1


def test_the_ffmpeg_program_ends_with_its_read(media: Path) -> None:
    long = factory.write_movie(media / "long.mp4", Movie(seconds=20, audio=False))
    video = facts(long)
    with read_frames(str(long), video, start_s=0, end_s=99, options=DecodeOptions(backend="ffmpeg")) as reader:
        next(iter(reader))
        pid = reader._child.pid
        started = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        assert len(started) == 1
    assert Path(f"/proc/{pid}/task/{pid}/children").read_text().split() == []


def test_memory_and_frame_limits(tmp_path: Path, media: Path) -> None:
    big = factory.write_movie(tmp_path / "big.mp4", Movie(width=3840, height=2160, seconds=0.12, audio=False))
    video = facts(big)
    small = DecodeOptions(memory_mb=420)
    with pytest.raises(BadInput, match="decode_failed: needs more than the limit of 420 MiB"):
        frames(big, video, options=small)
    assert len(frames(media / "plain.mp4", options=small)[0]) == 100
    assert len(frames(big, video)[0]) == 3
    with pytest.raises(BadInput, match="too_large"):
        frames(media / "plain.mp4", options=DecodeOptions(max_frames=20))
    with pytest.raises(BadInput, match="too_large"):
        probe(str(big), InputItem("big"), ProbeOptions(max_pixels=1280 * 720))


@pytest.mark.parametrize("backend", BACKENDS)
def test_playlists_cannot_point_elsewhere(tmp_path: Path, media: Path, backend: str) -> None:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    target = media / "plain.mp4"
    url = f"http://127.0.0.1:{server.server_port}/x.ts"
    playlists = {
        "net.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{url}\n#EXT-X-ENDLIST\n",
        "local.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nfile://{target}\n#EXT-X-ENDLIST\n",
        "concat.mp4": f"ffconcat version 1.0\nfile '{target}'\n",
        "sdp.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    }
    video = facts(target)
    try:
        for name, text in playlists.items():
            path = tmp_path / name
            path.write_text(text)
            with pytest.raises(BadInput, match="unreadable"):
                facts(path)
            with pytest.raises(BadInput, match="unreadable"):
                frames(path, video, options=DecodeOptions(backend=backend))
        with pytest.raises(BadInput, match="unreadable"):
            frames(Path(url), video, options=DecodeOptions(backend=backend))
    finally:
        server.shutdown()
        server.server_close()
    assert asked == []


_ORPHAN = """
import sys
from duologue.schemas.records import InputItem
from duologue.transforms.decode import read_frames
from duologue.transforms.probe import probe
video = probe(sys.argv[1], InputItem("x"))
with read_frames(sys.argv[1], video, start_s=0, end_s=9) as reader:
    next(iter(reader))
    print(reader._child.pid, flush=True)
    sys.stdin.read()
"""


def test_the_child_dies_with_its_parent_and_leaves_nothing(media: Path) -> None:
    shared = sorted(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else []
    process = subprocess.Popen(
        [sys.executable, "-c", _ORPHAN, str(media / "plain.mp4")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    os.kill(child, 0)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert _gone(child)
    if os.path.isdir("/dev/shm"):
        assert [n for n in sorted(os.listdir("/dev/shm")) if "duologue" in n and n not in shared] == []


def _gone(pid: int) -> bool:
    """Waits for the end of a process that is not ours to reap."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        import select

        return bool(select.select([descriptor], [], [], 10.0)[0])
    finally:
        os.close(descriptor)


def _count_in_fork(path: str, video: Video, queue: multiprocessing.Queue) -> None:
    with read_frames(path, video, start_s=0, end_s=9) as reader:
        queue.put((len(list(reader)), [c.pid for c in decode_process._idle]))


def test_a_forked_process_uses_its_own_child(media: Path) -> None:
    video = facts(media / "plain.mp4")
    warm()
    ours = decode_process._idle[0].pid
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_count_in_fork, args=(str(media / "plain.mp4"), video, queue))
    process.start()
    count, idle = queue.get(timeout=60)
    process.join(60)
    assert count == 100
    assert ours not in idle
    assert len(frames(media / "plain.mp4", video)[0]) == 100
    assert decode_process._idle[0].pid == ours
