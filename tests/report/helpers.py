"""What several tests of the report use."""

import json
from html.parser import HTMLParser
from unittest import mock

from mmbench.statistics.judge import judge
from mmbench.statistics.target import TARGETS

VOID = ("meta", "br", "input", "img")


class Page(HTMLParser):
    """Checks that every tag is closed, and collects what the tests ask about."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.text, self.scripts = [], [], "", []
        self.elements = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.text += data

    @property
    def tags(self):
        return [tag for tag, _ in self.elements]

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def data_of(page):
    """The data of the interactive scatter."""
    return json.loads(page.scripts[0])


def judge_gain(frame):
    """Judge by the gain alone, a fifth of the work: verdict and figures look at no other target."""
    with mock.patch("mmbench.statistics.judge.TARGETS", {"gain": TARGETS["gain"]}):
        return judge(frame)
