"""Voice activity over HTTP, frame by frame, against onnxruntime with the state in hand.

    V2_ADDRESS=127.0.0.1:8000 SILERO_MODEL=silero_vad_16k_op15.onnx python test_silero.py [tolerance]

Three calls are interleaved, each with audio of its own, through the typed face and V2. Prints the
largest difference.
"""

import http.client
import json
import os
import sys

import numpy as np
import onnxruntime

RATE, FRAME, CONTEXT, FRAMES = 16_000, 512, 64, 60


def audio(seed):
    """Two seconds of something like speech: a glottal pulse train with a gliding pitch, vowels (two
    resonances that move) four times a second, and pauses."""
    rng = np.random.default_rng(seed)
    count = FRAME * FRAMES
    time = np.arange(count) / RATE
    pitch = 120 + 30 * seed + 25 * np.sin(2 * np.pi * 0.9 * time + seed)
    phase = np.cumsum(pitch) / RATE
    pulses = np.diff(np.floor(phase), prepend=0.0)
    vowels = rng.permutation([(700, 1200), (300, 2300), (400, 800), (550, 1800), (350, 1000), (650, 1700)])
    at = np.arange(len(vowels)) / 4
    sound = pulses + 0.003 * rng.normal(size=count)
    for formant in range(2):
        track = np.interp((time + 0.2 * seed) % at[-1], at, vowels[:, formant])
        radius = np.exp(-np.pi * (80 + 40 * formant) / RATE)
        turn = 2 * radius * np.cos(2 * np.pi * track / RATE)
        before = previous = 0.0
        for i, value in enumerate(sound):
            before, previous = value + turn[i] * before - radius**2 * previous, before
            sound[i] = before
    syllables = np.clip(np.sin(2 * np.pi * 4 * time) + 0.6, 0, 1) * (np.sin(2 * np.pi * 0.8 * time + seed) > -0.5)
    sound = 0.3 * syllables * sound / np.abs(sound).max() + 0.0005 * rng.normal(size=count)
    return sound.astype(np.float32)


def frames(sound):
    """Each frame behind the last samples of the one before."""
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), sound])
    return [padded[i * FRAME:i * FRAME + CONTEXT + FRAME] for i in range(FRAMES)]


def reference(session, sound):
    state, answers = np.zeros((2, 1, 128), np.float32), []
    for frame in frames(sound):
        feed = {"input": frame[None], "state": state, "sr": np.array(RATE, np.int64)}
        feed = {i.name: feed[i.name] for i in session.get_inputs()}
        output, state = session.run(["output", "stateN"], feed)
        answers.append(float(output[0, 0]))
    return answers


class Typed:
    def __init__(self, address, name):
        self.server, self.name = http.client.HTTPConnection(address), name

    def ask(self, frame, start, end):
        headers = {"Content-Type": "application/json", "Sequence-Id": self.name}
        headers |= {"Sequence-Start": "true"} if start else {}
        headers |= {"Sequence-End": "true"} if end else {}
        body = json.dumps({"audio": frame.tolist()})
        self.server.request("POST", "/v1/models/voice:predict?outputs=prediction", body, headers)
        response = self.server.getresponse()
        text = response.read()
        assert response.status == 200, text
        return np.float32(json.loads(text)["predictions"][0]["prediction"])


class V2:
    def __init__(self, address, number):
        self.server, self.number = http.client.HTTPConnection(address), number

    def ask(self, frame, start, end):
        parameters = {"sequence_id": self.number, "sequence_start": start, "sequence_end": end}
        tensor = {"name": "input", "shape": [1, frame.size], "datatype": "FP32", "data": frame.tolist()}
        body = json.dumps({"inputs": [tensor], "parameters": parameters})
        self.server.request("POST", "/v2/models/voice/infer", body, {"Content-Type": "application/json"})
        response = self.server.getresponse()
        text = response.read()
        assert response.status == 200, text
        return np.float32(json.loads(text)["outputs"][0]["data"][0])


def main():
    address, tolerance = os.environ["V2_ADDRESS"], float(sys.argv[1])
    session = onnxruntime.InferenceSession(os.environ["SILERO_MODEL"])
    sounds = [audio(seed) for seed in range(3)]
    wanted = [reference(session, sound) for sound in sounds]
    assert max(map(max, wanted)) > 0.9 and min(map(min, wanted)) < 0.1, "the audio says nothing"
    clients = [Typed(address, "call-0"), V2(address, 1), Typed(address, "call-2")]
    worst = 0.0
    for i in range(FRAMES):
        for client, sound, answers in zip(clients, sounds, wanted):
            got = client.ask(frames(sound)[i], i == 0, i == FRAMES - 1)
            worst = max(worst, abs(float(got) - answers[i]))
    print(f"{3 * FRAMES} frames, largest difference {worst:.1e}")
    assert worst <= tolerance, worst


if __name__ == "__main__":
    main()
