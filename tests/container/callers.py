"""Callers that ask without pause over kept connections, until the server says that it leaves.

    callers.py PORT CALLERS FILE

Posts the JSON document of FILE to /predict. A caller stops where an answer carries `Connection: close`: that is what a
load balancer does which has taken the server out. Prints how many requests were sent, how many were
answered, and what became of the others.
"""

import http.client
import json
import sys
import threading
from collections import Counter
from pathlib import Path

PORT, CALLERS, BODY = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]).read_bytes()
counts, lock = Counter(), threading.Lock()


def call():
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=20)
    mine = Counter()
    while True:
        mine["sent"] += 1
        try:
            connection.request("POST", "/predict", BODY, {"Content-Type": "application/json"})
            response = connection.getresponse()
            whole = "prediction" in json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            mine[f"lost: {type(error).__name__}: {error}"] += 1
            break
        mine["answered" if response.status == 200 and whole else f"status {response.status}"] += 1
        if response.getheader("Connection", "").lower() == "close":
            mine["told to leave"] += 1
            break
    with lock:
        counts.update(mine)


threads = [threading.Thread(target=call) for _ in range(CALLERS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(counts))
