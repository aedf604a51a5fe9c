#!/usr/bin/env python3
"""A source for ReplayForge: each file FOLDER/*.json is an event, and is removed once ReplayForge has it on disk.

Write a file under another name, and rename it when it is whole. Many events are under way at a time.
"""
import json
import os
import sys
import threading
import time

folder = sys.argv[1]
under_way = set()


def send_files():
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".json") or name in under_way:
            continue
        try:
            with open(os.path.join(folder, name)) as file:
                body = file.read()
        except FileNotFoundError:
            continue  # removed since the folder was listed
        under_way.add(name)
        print(json.dumps({"id": name, "path": "/spool", "body": body}), flush=True)


def take_answers():
    for line in sys.stdin:
        answer = json.loads(line)
        name = answer.get("ack") or answer.get("refused")
        if name is None:
            print("a line was refused:", answer["reason"], file=sys.stderr)
            continue
        path = os.path.join(folder, name)
        if "ack" in answer:
            os.remove(path)
        else:
            os.rename(path, path + ".refused")
            print(name, "was refused:", answer["reason"], file=sys.stderr)
        under_way.discard(name)


threading.Thread(target=take_answers, daemon=True).start()
while True:
    send_files()
    time.sleep(0.2)
