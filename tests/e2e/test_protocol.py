"""The protocol but for its methods: envelope, frames, options, data, errors, limits."""

import unittest

import msgpack
import zmq

from harness import (
    MAX_KEY, MAX_MESSAGE, MAX_VALUE, MIB, U64_MAX, Client, CubbyError, DaemonCase, Pairs, Raw,
    as_bin, as_str, build, check_reply, field, pack, request, seeded, split, unpack, value_of_size,
)


def code_of(reply):
    return reply[2] and reply[2][0]


class Envelope(DaemonCase):
    def assert_answer(self, payload, msgid, code):
        reply = self.client.ask(payload)
        self.assertEqual((reply[1], code_of(reply)), (msgid, code), payload[:60])

    def test_a_req_socket_talks_in_five_lines(self):
        with Client(self.daemon, zmq.REQ) as req:
            req.send(pack([0, 1, "put", ["greeting", {"text": "hello"}]]))
            kind, msgid, error, version = unpack(req.receive_payload())
            self.assertEqual((kind, msgid, error), (1, 1, None))
            req.send(pack([0, 2, "get", ["greeting"]]))
            self.assertEqual(
                unpack(req.receive_payload()), [1, 2, None, [{"text": "hello"}, version, None]]
            )

    def test_a_reply_repeats_the_empty_frame_of_its_request(self):
        self.client.send(request(1, "ping"))
        self.assertEqual(self.client.receive(), [pack([1, 1, None, True])])
        self.client.send(b"", request(2, "ping"))
        self.assertEqual(self.client.receive(), [b"", pack([1, 2, None, True])])

    def test_an_error_reply_repeats_the_empty_frame_too(self):
        self.client.send(b"", request(3, "nothing"))
        empty, payload = self.client.receive()
        self.assertEqual(empty, b"")
        self.assertEqual(code_of(check_reply(payload)), "unknown_method")

    def test_any_other_number_of_frames_is_refused_without_a_msgid(self):
        ping = request(7, "ping")
        for frames in (
            [ping, ping], [ping, b""], [b"", ping, ping], [b"", b"", ping], [ping, ping, ping],
            [b"", ping, b""], [b"", b"", b"", b""], [b"x", b"", ping], [ping] * 40,
        ):
            with self.subTest(frames=len(frames), first_empty=frames[0] == b""):
                self.client.send(*frames)
                *front, payload = self.client.receive()
                self.assertEqual(front, [b""] if frames[0] == b"" else [])
                reply = check_reply(payload)
                self.assertEqual((reply[1], code_of(reply)), (None, "bad_request"))

    def test_two_empty_frames_are_an_empty_payload_behind_the_empty_frame(self):
        self.client.send(b"", b"")
        empty, payload = self.client.receive()
        self.assertEqual(empty, b"")
        reply = check_reply(payload)
        self.assertEqual((reply[1], code_of(reply)), (None, "bad_request"))

    def test_an_empty_payload_is_refused_without_a_msgid(self):
        self.client.send(b"")
        (payload,) = self.client.receive()
        reply = check_reply(payload)
        self.assertEqual((reply[1], code_of(reply)), (None, "bad_request"))

    def test_a_msgid_comes_back_as_the_same_number(self):
        for msgid in (0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63 - 1, 2**63,
                      U64_MAX):
            self.assertEqual(self.client.ask(request(msgid, "ping")), [1, msgid, None, True])

    def test_a_msgid_may_come_in_any_integer_encoding(self):
        for encoded in (b"\x05", b"\xcc\x05", b"\xcd\0\x05", b"\xce\0\0\0\x05",
                        b"\xcf\0\0\0\0\0\0\0\x05", b"\xd0\x05", b"\xd1\0\x05", b"\xd2\0\0\0\x05",
                        b"\xd3\0\0\0\0\0\0\0\x05"):
            payload = build([Raw(b"\xcc\0"), Raw(encoded), "ping", []])
            self.assertEqual(self.client.ask(payload), [1, 5, None, True])

    def test_the_same_msgid_may_be_used_again(self):
        for _ in range(3):
            self.assertEqual(self.client.ask(request(9, "ping")), [1, 9, None, True])

    def test_what_is_no_msgid_is_answered_without_one(self):
        for msgid in (-1, -(2**63), 1.0, True, None, "1", b"1", [1], {}, msgpack.ExtType(1, b"")):
            self.assert_answer(build([0, msgid, "ping", []]), None, "bad_request")

    def test_what_is_neither_request_nor_notification_is_answered_without_a_msgid(self):
        for kind in (1, 3, -1, 255, 2**40, 0.0, "0", None, True, False, [], {}):
            self.assert_answer(build([kind, 4, "ping", []]), None, "bad_request")

    def test_what_is_no_array_is_answered_without_a_msgid(self):
        for payload in (None, 0, True, 1.5, "ping", b"ping", {}, {0: 1}, msgpack.ExtType(5, b"a")):
            self.assert_answer(pack(payload), None, "bad_request")

    def test_an_envelope_has_four_elements(self):
        self.assert_answer(build([]), None, "bad_request")
        self.assert_answer(build([0]), None, "bad_request")
        self.assert_answer(build([0, 4]), 4, "bad_request")
        self.assert_answer(build([0, 4, "ping"]), 4, "bad_request")
        self.assert_answer(build([0, 4, "ping", [], 0]), 4, "bad_request")

    def test_nothing_may_follow_the_payload(self):
        for tail in (b"\xc0", b"\0", b"\xc1", request(5, "ping")):
            self.assert_answer(request(4, "ping") + tail, 4, "bad_request")

    def test_nothing_that_is_followed_by_something_is_carried_out(self):
        self.client.ask(request(4, "put", self.key, 1) + b"\xc0")
        self.assertIsNone(self.call("get", self.key))

    def test_a_method_is_a_str(self):
        for method in (b"ping", 1, None, ["ping"], {}):
            self.assert_answer(build([0, 4, method, []]), 4, "bad_request")

    def test_a_method_that_is_not_known_is_said_to_be_so(self):
        for method in ("", "pin", "pingg", "PING", "ping\0", "get ", "x" * 70000):
            self.assert_answer(build([0, 4, method, []]), 4, "unknown_method")
        self.assert_answer(build([0, 4, as_str(b"\xff\xfe"), []]), 4, "unknown_method")

    def test_params_are_an_array(self):
        for params in (None, {}, "", 0, b""):
            self.assert_answer(build([0, 4, "ping", params]), 4, "bad_request")

    def test_every_prefix_of_a_request_is_answered_as_far_as_it_can_be_read(self):
        corpus = [
            request(300, "ping"),
            request(U64_MAX, "put", "key", {"a": [1, 2.5, None, True, "s", b"b"]}, {"ttl": 1000}),
            request(1, "batch", [["put", ["a", 1]], ["get", ["a"]]], {"if": [["a", 0]]}),
            request(70000, "scan", {"prefix": "p", "limit": 3, "reverse": True}),
            request(2**33, "get", as_bin(b"k" * 300)),
        ]
        for payload in corpus:
            read_msgid = 2 + len(split(payload)[1])
            msgid = split(payload)[1]
            for size in range(len(payload)):
                answered = unpack(msgid) if size >= read_msgid else None
                self.assert_answer(payload[:size], answered, "bad_request")

    def test_every_prefix_of_a_notification_is_answered_only_before_its_type_is_read(self):
        payload = build([2, "put", [self.key, [1, {"a": 2}]]])
        for size in range(len(payload)):
            if size < 2:
                self.assert_answer(payload[:size], None, "bad_request")
            else:
                self.client.send_payload(payload[:size])
                self.assertTrue(self.client.silent())
        self.assertIsNone(self.call("get", self.key))

    def test_counts_and_lengths_of_four_billion_are_refused(self):
        for bomb in (b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"):
            huge = bomb + b"\xff\xff\xff\xff"
            self.assert_answer(b"\x94\0\x04\xa4ping" + huge, 4, "bad_request")
            self.assert_answer(b"\x94\0\x04" + huge, 4, "bad_request")
            self.assert_answer(b"\x94\0" + huge, None, "bad_request")
            self.assert_answer(b"\x94\0\x04\xa3put\x92\xa1k" + huge, 4, "bad_request")
            self.assert_answer(b"\x94\0\x04\xa5batch\x91" + huge, 4, "bad_request")
        self.assert_answer(b"\xdd\xff\xff\xff\xff\0\x04\xa4ping\x90", 4, "bad_request")

    def test_nesting_bombs_are_refused(self):
        for bomb in (b"\x91" * MIB, b"\x81\x01" * MIB, b"\x81" * MIB, b"\xdd\0\0\0\1" * MIB,
                     b"\x91" * MIB + b"\xc0"):
            self.assert_answer(bomb, None, "bad_request")
            self.assert_answer(b"\x94\0\x04\xa3put\x92\xa1k" + bomb, 4, "bad_request")
            self.assert_answer(b"\x94\0\x04\xa4ping" + bomb, 4, "bad_request")
        self.assertTrue(self.call("ping"))

    def test_the_byte_that_messagepack_never_uses_is_refused_everywhere(self):
        self.assert_answer(b"\xc1", None, "bad_request")
        self.assert_answer(build([0, 4, "put", ["k", Raw(b"\xc1")]]), 4, "bad_request")
        self.assert_answer(build([0, 4, "put", ["k", [Raw(b"\xc1")]]]), 4, "bad_request")
        self.assert_answer(build([0, 4, "put", ["k", {"a": Raw(b"\xc1")}]]), 4, "bad_request")

    def test_random_bytes_are_always_answered_or_ignored(self):
        randomness = seeded(self)
        seed = request(1, "put", "fuzz", [1, "two", {"three": b"\x04"}], {"ttl": 10000})
        for marker in range(2**40, 2**40 + 500):
            data = bytearray(seed)
            for _ in range(randomness.randrange(1, 6)):
                data[randomness.randrange(len(data))] = randomness.randrange(256)
            self.client.send_payload(bytes(data))
            self.client.send_request(marker, "ping")
            if check_reply(self.client.receive_payload())[1] != marker:
                self.assertEqual(check_reply(self.client.receive_payload())[1], marker, data.hex())

    def test_replies_come_in_the_order_of_the_requests(self):
        calls = [["ping"], ["put", self.key, 1], ["get", self.key], ["nope"],
                 ["scan", {"prefix": self.key}]]
        for msgid in range(3000):
            self.client.send_request(msgid, *calls[msgid % len(calls)])
        for msgid in range(3000):
            self.assertEqual(check_reply(self.client.receive_payload())[1], msgid)

    def test_one_client_may_mix_messages_with_and_without_the_empty_frame(self):
        for msgid in range(100):
            self.client.send(*([b""] if msgid % 2 else []), request(msgid, "ping"))
        for msgid in range(100):
            *front, payload = self.client.receive()
            self.assertEqual(front, [b""] if msgid % 2 else [])
            self.assertEqual(unpack(payload)[1], msgid)


class Notifications(DaemonCase):
    def test_a_notification_is_carried_out_and_not_answered(self):
        self.client.send_payload(build([2, "put", [self.key, "quiet"]]))
        self.assertTrue(self.client.silent())
        self.assertEqual(self.call("get", self.key)[0], "quiet")

    def test_a_notification_may_be_a_batch(self):
        self.client.send_payload(build([2, "batch", [[["put", [self.key, 1]]]]]))
        self.assertTrue(self.client.silent())
        self.assertEqual(self.call("get", self.key)[0], 1)

    def test_a_wrong_notification_is_never_answered(self):
        for payload in (
            [2], [2, "put"], [2, "put", []], [2, "put", [b"", 1]], [2, "nothing", []],
            [2, 5, []], [2, None, None], [2, "put", ["k", 1, {"typo": 1}]], [2, "put", {}],
            [2, "ping", [], []], [2, "put", ["k", 1], 3], [2, "put", ["k" * 1025, 1]],
            [2, "put", [self.key, 1, {"if_version": 99}]], [2, "increment", ["k", 1.5]],
        ):
            self.client.send_payload(build(payload))
            self.client.send(b"", build(payload))
        self.client.send_payload(build([2, "put", ["k", 1]]) + b"\xc0")
        self.client.send_payload(build([2, "put", ["k"]]) + b"\xc1")
        self.assertTrue(self.client.silent())
        self.assertIsNone(self.call("get", self.key))

    def test_reads_as_notifications_do_nothing(self):
        for method, params in (("ping", []), ("get", ["k"]), ("hello", []), ("stats", []),
                               ("scan", []), ("changes", [])):
            self.client.send_payload(build([2, method, params]))
        self.assertTrue(self.client.silent())

    def test_notifications_keep_their_place_among_the_requests(self):
        for number in range(200):
            self.client.send_payload(build([2, "put", [self.key, number]]))
            self.client.send_request(number, "get", self.key)
        for number in range(200):
            self.assertEqual(check_reply(self.client.receive_payload())[3][0], number)


class Options(DaemonCase):
    def test_every_method_takes_an_empty_map_of_options(self):
        self.assertIs(self.call("ping", {}), True)
        self.assertIn("epoch", self.call("hello", {}))
        self.call("put", self.key, 1, {})
        self.assertEqual(self.call("get", self.key, {})[0], 1)
        self.assertEqual(self.call("increment", self.key, {})[0], 2)
        self.assertEqual(self.call("increment", self.key, 1, {})[0], 3)
        self.assertIs(self.call("touch", self.key, None, {}), True)
        self.assertIn("entries", self.call("scan", {}))
        self.assertGreaterEqual(self.call("count", {}), 1)
        self.assertEqual(self.call("batch", [], {})["results"], [])
        self.assertIn("keys", self.call("stats", {}))
        self.assertIn("changes", self.call("changes", {}))
        self.assertIs(self.call("delete", self.key, {}), True)

    def test_a_map_in_the_place_of_a_required_argument_is_that_argument(self):
        self.call("put", self.key, {"ttl": 5})
        self.assertEqual(self.call("get", self.key)[::2], [{"ttl": 5}, None])
        self.call("put", self.key, {}, {})
        self.assertEqual(self.call("get", self.key)[0], {})
        self.refused("bad_request", "get", {})
        self.refused("bad_request", "touch", self.key, {})

    def test_an_option_that_is_not_known_is_refused(self):
        for method, *params in (
            ["ping"], ["hello"], ["get", "k"], ["put", "k", 1], ["delete", "k"],
            ["increment", "k"], ["increment", "k", 1], ["touch", "k", None], ["scan"], ["count"],
            ["delete_range"], ["batch", []], ["stats"], ["changes"],
        ):
            for option in ("if_versio", "IF_VERSION", "", "tt", "ttl\0", "x" * 300):
                self.refused("bad_request", method, *params, {option: 1})

    def test_an_option_of_another_method_is_refused(self):
        self.refused("bad_request", "get", "k", {"if_version": 0})
        self.refused("bad_request", "delete", "k", {"ttl": 5})
        self.refused("bad_request", "increment", "k", {"previous": True})
        self.refused("bad_request", "increment", "k", {"keep_ttl": True})
        self.refused("bad_request", "touch", "k", None, {"if_exists": True})
        self.refused("bad_request", "count", {"limit": 5})
        self.refused("bad_request", "count", {"after": "k"})
        self.refused("bad_request", "delete_range", {"prefix": "k", "reverse": True})
        self.refused("bad_request", "scan", {"since": 1})
        self.refused("bad_request", "hello", {"epoch": "x"})

    def test_an_option_given_twice_is_refused(self):
        for pairs in ([("if_version", 0), ("if_version", 0)], [("ttl", 5), ("ttl", 6)],
                      [("previous", True), ("ttl", 5), ("previous", True)]):
            self.refused("bad_request", "put", self.key, 1, Pairs(*pairs))
        self.assertIsNone(self.call("get", self.key))

    def test_a_name_that_is_not_a_str_is_refused(self):
        for name in (b"ttl", 1, None, True, ["ttl"]):
            self.refused("bad_request", "put", self.key, 1, Pairs((name, 5)))

    def test_nil_is_no_way_to_leave_an_option_out(self):
        for method, params, names in (
            ("put", ["k", 1], ["ttl", "keep_ttl", "if_version", "if_exists", "previous"]),
            ("delete", ["k"], ["if_version", "if_exists", "previous"]),
            ("increment", ["k"], ["initial", "ttl", "if_version", "if_exists"]),
            ("scan", [], ["prefix", "start", "end", "after", "limit", "reverse", "keys_only"]),
            ("count", [], ["prefix", "start", "end"]),
            ("delete_range", [], ["prefix", "start", "end", "limit"]),
            ("changes", [], ["since", "prefix", "limit", "epoch"]),
            ("hello", [], ["client"]),
            ("batch", [[]], ["if"]),
        ):
            for name in names:
                self.refused("bad_request", method, *params, {name: None})

    def test_no_float_passes_for_an_integer(self):
        for number in (5.0, 1.5, float("inf"), float("nan"), Raw(b"\xca\x40\xa0\0\0")):
            for option in ("ttl", "if_version"):
                self.refused("bad_request", "put", "k", 1, {option: number})
            self.refused("bad_request", "increment", "k", number)
            self.refused("bad_request", "increment", "k", {"initial": number})
            self.refused("bad_request", "touch", "k", number)
            self.refused("bad_request", "scan", {"limit": number})
            self.refused("bad_request", "changes", {"since": number})

    def test_true_is_not_1_and_1_is_not_true(self):
        self.refused("bad_request", "put", "k", 1, {"if_version": True})
        self.refused("bad_request", "increment", "k", True)
        self.refused("bad_request", "scan", {"limit": True})
        for option in ("keep_ttl", "if_exists", "previous"):
            for value in (1, 0, "true", None):
                self.refused("bad_request", "put", "k", 1, {option: value})
        for option in ("reverse", "keys_only"):
            self.refused("bad_request", "scan", {option: 1})

    def test_integers_may_come_in_any_encoding(self):
        key = self.key
        for encoded in (b"\xcc\x07", b"\xcd\0\x07", b"\xce\0\0\0\x07", b"\xcf\0\0\0\0\0\0\0\x07",
                        b"\xd0\x07", b"\xd1\0\x07", b"\xd2\0\0\0\x07", b"\xd3\0\0\0\0\0\0\0\x07"):
            self.call("put", key, 0)
            self.assertEqual(self.call("increment", key, Raw(encoded))[0], 7)
            self.assertEqual(len(self.call("scan", {"prefix": key, "limit": Raw(encoded)})
                                 ["entries"]), 1)
        self.assertEqual(self.call("increment", key, Raw(b"\xd3" + b"\xff" * 8))[0], 6)

    def test_the_number_of_arguments_is_checked(self):
        for method, *params in (
            ["ping", 1], ["hello", "me"], ["get"], ["get", "k", "l"], ["put"], ["put", "k"],
            ["put", "k", 1, 2], ["put", "k", 1, {}, {}], ["delete"], ["delete", "k", 1],
            ["increment"], ["increment", "k", 1, 2], ["increment", "k", 1, {}, {}], ["touch"],
            ["touch", "k"], ["touch", "k", 1, 2], ["scan", "k"], ["scan", {}, {}], ["count", "k"],
            ["delete_range", "k"], ["batch"], ["batch", [], []], ["stats", 1], ["changes", 1],
        ):
            self.refused("bad_request", method, *params)

    def test_options_come_last(self):
        self.refused("bad_request", "increment", self.key, {}, 1)
        self.refused("bad_request", "put", self.key, 1, {}, 1)


class Keys(DaemonCase):
    def test_str_and_bin_of_the_same_bytes_are_the_same_key(self):
        for data in (b"plain", "gr\u00fc\u00df".encode(), b"\xff\xfe", b"\0", b"a\0b", b" "):
            version = self.call("put", as_str(data), "by str")
            self.assertEqual(self.call("get", as_bin(data)), ["by str", version, None])
            self.call("put", as_bin(data), "by bin")
            self.assertEqual(self.call("get", as_str(data))[0], "by bin")
            self.assertIs(self.call("delete", as_str(data)), True)

    def test_a_key_comes_back_as_str_where_it_is_utf8_and_else_as_bin(self):
        utf8 = [b"a", b"\0", b"\x7f", b"\xc2\x80", b"\xdf\xbf", b"\xe0\xa0\x80", b"\xed\x9f\xbf",
                b"\xee\x80\x80", b"\xef\xbf\xbf", b"\xf0\x90\x80\x80", b"\xf4\x8f\xbf\xbf"]
        other = [b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc2", b"\xe0\x80\x80",
                 b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf0\x80\x80\x80",
                 b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xff", b"\xe2\x82",
                 b"\xf0\x9f\x98", b"\xc2a", b"a\xff"]
        prefix = self.key.encode()
        for data in utf8 + other:
            self.call("put", as_bin(prefix + data), None)
        keys = self.call("scan", {"prefix": self.key, "keys_only": True})["entries"]
        expected = {prefix + data for data in other} | {(prefix + data).decode() for data in utf8}
        self.assertEqual(set(keys), expected)
        self.assertEqual(len(keys), len(expected))

    def test_a_key_has_1_to_1024_bytes(self):
        for key in ("x" * MAX_KEY, as_bin(b"\xff" * MAX_KEY), "y"):
            self.call("put", key, 1)
            self.assertEqual(self.call("get", key)[0], 1)
            self.assertIs(self.call("delete", key), True)
        for method, *rest in (["get"], ["put", 1], ["delete"], ["increment"], ["touch", None]):
            for empty in ("", b""):
                self.refused("bad_request", method, empty, *rest)
            for long in ("x" * (MAX_KEY + 1), as_bin(b"x" * 70000), as_str(b"\xff" * 1025)):
                self.refused("too_large", method, long, *rest, limit=MAX_KEY)

    def test_what_is_neither_str_nor_bin_is_no_key(self):
        for key in (1, None, True, 1.5, ["k"], {"k": 1}, msgpack.ExtType(1, b"k")):
            self.refused("bad_request", "get", key)
            self.refused("bad_request", "put", key, 1)

    def test_keys_are_in_bytewise_order_shorter_first(self):
        prefix = self.key.encode()
        tails = [b"", b"\0", b"\0\0", b"\x01", b"A", b"AA", b"AB", b"B", b"a", b"\x7f", b"\x80",
                 b"\xc3\xa4", b"\xff", b"\xff\0", b"\xff\xff"]
        for tail in reversed(tails):
            self.call("put", as_bin(prefix + tail), 1)
        keys = self.call("scan", {"prefix": self.key, "keys_only": True})["entries"]
        keys = [key if isinstance(key, bytes) else key.encode() for key in keys]
        self.assertEqual(keys, [prefix + tail for tail in tails])


class Values(DaemonCase):
    ENCODED = [
        b"\xc0", b"\xc2", b"\xc3", b"\x00", b"\x7f", b"\xff", b"\xe0",
        b"\xcc\x00", b"\xcd\x00\x01", b"\xce\0\0\0\x01", b"\xcf" + bytes(8), b"\xcf" + b"\xff" * 8,
        b"\xd0\x00", b"\xd1\0\0", b"\xd2" + bytes(4), b"\xd3" + bytes(8), b"\xd3\x80" + bytes(7),
        b"\xca\x7f\xc0\0\0", b"\xca\0\0\0\0", b"\xcb\x7f\xf8\0\0\0\0\0\x01", b"\xcb\x80" + bytes(7),
        b"\xa0", b"\xa1\xff", b"\xd9\x01a", b"\xda\0\x01a", b"\xdb\0\0\0\x01\xc3", b"\xd9\x00",
        b"\xc4\x00", b"\xc4\x02\xff\0", b"\xc5\0\x01a", b"\xc6\0\0\0\x01a",
        b"\x90", b"\xdc\0\0", b"\xdd\0\0\0\0", b"\xdd\0\0\0\x02\xc0\xc3", b"\x92\xcd\0\x01\xa0",
        b"\x80", b"\xde\0\0", b"\xdf\0\0\0\0", b"\x82\xa1a\x01\xa1a\x02", b"\x81\x90\x80",
        b"\xdf\0\0\0\x01\xc0\xc0", b"\x82\xa1b\x01\xa1a\x02", b"\x81\xcb" + bytes(8) + b"\xc2",
        b"\xd4\x05x", b"\xd5\x85xx", b"\xd6\xffabcd", b"\xd7\x00" + b"8" * 8,
        b"\xd8\x7f" + b"f" * 16, b"\xc7\x00\x05", b"\xc7\x03\x81abc", b"\xc8\0\x01\x05x",
        b"\xc9\0\0\0\x01\x05x", b"\xd6\xff\xff\xff\xff\xff", b"\xc9\0\0\0\0\x00",
    ]

    def test_a_value_is_stored_and_returned_byte_for_byte(self):
        for number, encoded in enumerate(self.ENCODED):
            key = f"{self.key}{number:03}"
            self.call("put", key, Raw(encoded))
            value, _, _ = split(self.client.call_raw("get", key))
            self.assertEqual(value, encoded)
            result = self.client.call_raw("put", key, Raw(encoded), {"previous": True})
            self.assertEqual(split(split(result)[1])[0], encoded)
        page = self.client.call_raw("scan", {"prefix": self.key})
        self.assertEqual([split(entry)[1] for entry in split(field(page, "entries"))], self.ENCODED)
        for number, encoded in enumerate(self.ENCODED):
            result = self.client.call_raw("delete", f"{self.key}{number:03}", {"previous": True})
            self.assertEqual(split(split(result)[1])[0], encoded)

    def test_a_batch_and_the_changes_return_it_byte_for_byte_too(self):
        since = self.seq()
        puts = [["put", [f"{self.key}{number:03}", Raw(encoded)]]
                for number, encoded in enumerate(self.ENCODED)]
        gets = [["get", [f"{self.key}{number:03}"]] for number in range(len(puts))]
        result = self.client.call_raw("batch", puts + gets)
        results = split(field(result, "results"))
        self.assertEqual([split(entry)[0] for entry in results[len(puts):]], self.ENCODED)
        page = self.client.call_raw("changes", {"since": since, "prefix": self.key})
        self.assertEqual([split(change)[5] for change in split(field(page, "changes"))],
                         self.ENCODED)

    def test_nil_is_a_value_like_any_other(self):
        version = self.call("put", self.key, None)
        self.assertEqual(self.call("get", self.key), [None, version, None])
        self.refused("conflict", "put", self.key, 1, {"if_exists": False})

    def test_a_value_has_at_most_max_value_bytes_encoded(self):
        exact = Raw(pack(value_of_size(MAX_VALUE)))
        self.assertEqual(len(exact), MAX_VALUE)
        self.call("put", self.key, exact)
        self.assertEqual(split(self.client.call_raw("get", self.key))[0], exact)
        nils = b"\xdd" + MAX_VALUE.to_bytes(4, "big") + b"\xc0" * MAX_VALUE
        for over in (pack(value_of_size(MAX_VALUE + 1)), pack([b"x" * MAX_VALUE]), nils):
            self.refused("too_large", "put", self.key, Raw(over), limit=MAX_VALUE)
        self.assertEqual(split(self.client.call_raw("get", self.key))[0], exact)
        self.call("delete", self.key)

    def test_a_value_is_nested_at_most_64_deep(self):
        for opening in (b"\x91", b"\x81\xa1a", b"\xdc\0\x01", b"\xdf\0\0\0\x01\xc0"):
            for innermost, depth in ((b"\xc0", 64), (b"\x90", 63), (b"\x80", 63)):
                deep, deeper = opening * depth + innermost, opening * (depth + 1) + innermost
                self.call("put", self.key, Raw(deep))
                self.assertEqual(split(self.client.call_raw("get", self.key))[0], deep)
                self.refused("bad_request", "put", self.key, Raw(deeper))
                self.client.batch(["put", self.key, Raw(deep)])
                detail = self.refused("bad_request", "batch", [["put", [self.key, Raw(deeper)]]])
                self.assertEqual(detail, {"index": 0})

    def test_a_map_may_be_a_key_of_a_map_as_deep_as_any_value(self):
        deep = b"\x81" * 63 + b"\x80" + b"\xc0" * 63
        self.call("put", self.key, Raw(deep))
        self.assertEqual(split(self.client.call_raw("get", self.key))[0], deep)
        self.refused("bad_request", "put", self.key, Raw(b"\x81" * 64 + b"\x80" + b"\xc0" * 64))


class Limits(DaemonCase):
    def test_a_message_of_max_message_is_read(self):
        names = [f"{self.key}{number}" for number in range(9)]
        sizes = [MAX_MESSAGE // 9 - 100] * 9

        def payload():
            return request(1, "batch", [
                ["put", [name, b"x" * size]] for name, size in zip(names, sizes)])

        sizes[0] += MAX_MESSAGE - len(payload())
        self.assertEqual(len(payload()), MAX_MESSAGE)
        self.assertIsNone(self.client.ask(payload())[2])
        self.assertEqual(self.call("count", {"prefix": self.key}), len(names))


class ErrorText(DaemonCase):
    def test_every_error_has_code_message_and_detail(self):
        with self.assertRaises(CubbyError) as caught:
            self.call("put", self.key, 1, {"if_exists": True})
        self.assertEqual(caught.exception.detail, {"key": self.key, "version": 0})
        self.assertIsInstance(caught.exception.message, str)
        with self.assertRaises(CubbyError) as caught:
            self.call("get", "k" * 1025)
        self.assertEqual(caught.exception.detail, {"limit": 1024})

    def test_a_message_is_utf8_whatever_it_is_about(self):
        for name in (b"\xff\xfe", b"\xc3", b"a\0b", b"\n\x1b[31m", b"x" * 31 + "\u00e4".encode(),
                     "\U0001f600".encode() * 20):
            for payload in ([0, 1, as_str(name), []],
                            [0, 1, "put", ["k", 1, Pairs((as_str(name), 1))]],
                            [0, 1, "batch", [[[as_str(name), []]]]]):
                self.assertIn(code_of(self.client.ask(build(payload))),
                              ("unknown_method", "bad_request"))

    def test_an_error_does_no_harm_to_what_follows(self):
        for payload in (b"\xc1", request(1, "get"), request(2, "nope"), b""):
            self.client.ask(payload)
        self.assertIs(self.call("ping"), True)


if __name__ == "__main__":
    unittest.main()
