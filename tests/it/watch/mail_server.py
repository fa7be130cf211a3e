"""A real mail server on a free port of loopback: prints the port, then each mail as a line of JSON."""
import email
import json
import sys
import threading

from aiosmtpd.controller import Controller


class Printer:
    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content)
        print(json.dumps({
            'from': envelope.mail_from,
            'to': envelope.rcpt_tos,
            'subject': message['subject'],
            'text': message.get_payload(decode=True).decode(),
        }), flush=True)
        return '250 OK'


controller = Controller(Printer(), hostname='127.0.0.1', port=0)
# The controller asks its own port for an answer, and with port 0 it does not know it: the loop is run by hand.
server = controller.loop.run_until_complete(
    controller.loop.create_server(controller.factory, host='127.0.0.1', port=0))
print(server.sockets[0].getsockname()[1], flush=True)
threading.Thread(target=lambda: (sys.stdin.read() if sys.stdin else None), daemon=True).start()
controller.loop.run_forever()
