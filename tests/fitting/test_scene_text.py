from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from duologue.fitting.head_model import rotation_matrix
from duologue.fitting.layout import all_codes, codes_of, parse, text
from duologue.fitting.layout_llm import Endpoint
from duologue.fitting.scene_text import EXAMPLE, scene_from_text
from duologue.schemas.errors import UsageError

Serve = Callable[[int, str], str]


def test_the_example_is_placed_as_it_says() -> None:
    scene = scene_from_text(EXAMPLE)
    assert scene.codes == ("arrangement:face_to_face", "distance:personal")
    distance = float(np.linalg.norm(scene.centre[1] - scene.centre[0]))
    assert 0.45 <= distance < 1.2
    assert scene.centre[0, 0] < scene.centre[1, 0]
    direction = (scene.centre[1] - scene.centre[0]) / distance
    forward = rotation_matrix(scene.rotation) @ np.array([0.0, 0.0, -1.0])
    assert forward[0] @ direction > np.cos(np.radians(45))
    assert forward[1] @ -direction > np.cos(np.radians(45))


def test_a_number_wins() -> None:
    scene = scene_from_text("they face each other, 2.5 metres apart")
    assert np.linalg.norm(scene.centre[1] - scene.centre[0]) == pytest.approx(2.5)


@pytest.mark.parametrize(
    "code", [c for c in all_codes() if c.startswith(("arrangement", "distance", "height", "depth"))]
)
def test_every_place_code_survives_the_way_to_heads_and_back(code: str) -> None:
    scene = scene_from_text(text((code,), "seed"))
    offset = scene.centre[1] - scene.centre[0]
    forward = rotation_matrix(scene.rotation) @ np.array([0.0, 0.0, -1.0])
    angles = []
    for direction, to_other, sign in ((forward[0], offset, 1.0), (forward[1], -offset, -1.0)):
        across = np.hypot(to_other[0], to_other[2])
        along = (direction[0] * to_other[0] + direction[2] * to_other[2]) / across
        toward = sign * (direction[0] * to_other[2] - direction[2] * to_other[0]) / across
        angles.append(float(np.degrees(np.arctan2(toward, along))))
    measured = {
        "distance_m": float(np.linalg.norm(offset)),
        "height_difference_m": float(-offset[1]),
        "depth_difference_m": float(offset[2]),
        "facing_a_deg": angles[0],
        "facing_b_deg": angles[1],
    }
    assert code in codes_of(measured)


@pytest.mark.parametrize("words", ["", "a nice talk about cheese", "hello"])
def test_text_that_names_nothing_spatial_is_one_line(words: str) -> None:
    with pytest.raises(UsageError, match="names nothing spatial") as caught:
        scene_from_text(words)
    assert "\n" not in str(caught.value)


def test_contradictions_and_impossible_distances_are_said() -> None:
    with pytest.raises(UsageError, match="contradict"):
        scene_from_text("they are far apart, they are almost touching")
    with pytest.raises(UsageError, match="400 m apart"):
        scene_from_text("they are 400 metres apart")


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A local server that answers like a chat API; returns its address."""
    servers = []

    def start(status: int, content: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked.append((self.path, self.headers.get("Authorization"), body))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(content.encode())

            def log_message(self, *_: object) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/v1"

    asked.clear()
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


asked: list[tuple[str, str | None, dict[str, object]]] = []


def reply(content: str) -> str:
    return json.dumps({"choices": [{"message": {"content": content}}]})


def test_a_language_model_is_asked_and_heard(serve: Serve) -> None:
    url = serve(200, reply('Sure: {"codes": ["arrangement:l_shape"], "distance_m": 1.5}'))
    scene = scene_from_text("at the corner of a table, a metre and a half", Endpoint(url, "small", key="secret"))
    assert scene.codes == ("arrangement:l_shape", "distance:social")
    assert np.linalg.norm(scene.centre[1] - scene.centre[0]) == pytest.approx(1.5)
    path, key, body = asked[0]
    assert (path, key, body["model"]) == ("/v1/chat/completions", "Bearer secret", "small")
    assert "arrangement:l_shape" in str(body["messages"])


@pytest.mark.parametrize(
    ("status", "content", "message"),
    [
        (500, "", "answered 500"),
        (200, "not json", "not the JSON object"),
        (200, '{"choices": []}', "not the JSON object"),
        (200, reply("no braces"), "not the JSON object"),
        (200, reply('{"codes": ["place:moon"]}'), "does not exist: place:moon"),
        (200, reply('{"codes": "far"}'), "no list of codes"),
        (200, reply('{"codes": []}'), "names nothing spatial"),
    ],
)
def test_bad_answers_are_one_line(serve: Serve, status: int, content: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        scene_from_text("somewhere", Endpoint(serve(status, content), "small"))
    assert "\n" not in str(caught.value)


def test_no_server_is_one_line() -> None:
    with pytest.raises(UsageError, match="cannot be reached"):
        Endpoint("http://127.0.0.1:9/v1", "small", timeout_s=2.0)("far apart")
    with pytest.raises(UsageError, match="begins with http"):
        Endpoint("file:///etc", "small")("far apart")


def test_rules_and_examples_agree_on_codes() -> None:
    assert parse(EXAMPLE).codes
