"""Run code in a new kernel through Jupyter's own API, inside the container; prints its output.

Called as ``python kernel_client.py TOKEN CODE [SECONDS]``. With SECONDS it does not wait for the
code's end: it leaves after that time, with the kernel busy.
"""

import json
import sys
import time
import urllib.request
import uuid


def main(token: str, code: str, seconds: float | None) -> None:
    # Jupyter's own dependency: it is in the image, and not where the tests run.
    from websocket import WebSocketTimeoutException, create_connection

    request = urllib.request.Request(
        "http://127.0.0.1:8888/api/kernels",
        data=b"{}",
        headers={"Authorization": f"token {token}"},
    )
    with urllib.request.urlopen(request) as answer:
        kernel = json.load(answer)["id"]
    address = f"ws://127.0.0.1:8888/api/kernels/{kernel}/channels"
    connection = create_connection(address, header=[f"Authorization: token {token}"], timeout=60)
    message = uuid.uuid4().hex
    connection.send(
        json.dumps(
            {
                "channel": "shell",
                "header": {"msg_id": message, "msg_type": "execute_request", "session": message}
                | {"username": "", "date": "", "version": "5.3"},
                "parent_header": {},
                "metadata": {},
                "content": {"code": code, "silent": False, "store_history": False}
                | {"user_expressions": {}, "allow_stdin": False, "stop_on_error": True},
            }
        )
    )
    end = None if seconds is None else time.monotonic() + seconds
    while end is None or time.monotonic() < end:
        if end is not None:
            connection.settimeout(max(0.1, end - time.monotonic()))
        try:
            reply = json.loads(connection.recv())
        except WebSocketTimeoutException:
            if end is None:
                raise
            continue
        if reply["parent_header"].get("msg_id") != message:
            continue
        if reply["msg_type"] == "stream":
            print(reply["content"]["text"], end="")
        if reply["msg_type"] == "error":
            sys.exit("\n".join(reply["content"]["traceback"]))
        if reply["msg_type"] == "status" and reply["content"]["execution_state"] == "idle":
            return


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else None)
