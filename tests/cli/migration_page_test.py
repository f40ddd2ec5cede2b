#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pages of made-up migrations, as a strict parser reads them.

    migration_page_test.py MIGRATION_PAGES
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as tree

PAGES = ""
HTML = "{http://www.w3.org/1999/xhtml}"


def texts(page, name, style=None):
    found = page.iter(HTML + name)
    return ["".join(one.itertext()) for one in found if style is None or style in one.get("class", "").split()]


class Pages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        subprocess.run([PAGES, cls.folder.name], check=True, timeout=60)

    def source(self, name):
        with open(os.path.join(self.folder.name, name + ".html"), encoding="utf-8") as file:
            return file.read()

    def page(self, name):
        return tree.fromstring(self.source(name))

    def headline(self, name):
        (line,) = texts(self.page(name), "h1")
        self.assertEqual(texts(self.page(name), "title"), [line])
        return line

    def test_all_are_well_formed_and_fetch_nothing(self):
        names = sorted(os.listdir(self.folder.name))
        self.assertEqual(len(names), 7)
        for name in names:
            with self.subTest(name):
                page = self.page(name.removesuffix(".html"))
                self.assertEqual(page.tag, HTML + "html")
                for one in page.iter():
                    self.assertIsNone(one.get("src"), one.tag)
                    self.assertIsNone(one.get("href"), one.tag)
                for style in texts(page, "style"):
                    self.assertNotIn("url(", style)
                    self.assertNotIn("@import", style)

    def test_the_headline_says_what_happened(self):
        self.assertEqual(self.headline("good"), "8 GiB moved to ganymede in 3.02 s; the guest stood still for 14 ms, predicted 13 ms")

    def test_a_good_one_has_everything(self):
        page = self.page("good")
        titles = texts(page, "h2")
        self.assertEqual(titles, ["Bandwidth and dirty rate", "Still to be sent", "Sent since the beginning", "The blackout", "Rounds", "Facts", "RAM blocks"])
        first, *rounds = [texts(row, "td") for row in page.iter(HTML + "tr") if texts(row, "td") and re.match("round|stop", texts(row, "td")[0])]
        self.assertEqual(first, ["round 1", "0 ms", "", "8.00 GiB", "8.00 GiB", "3.60 GiB/s", "2.22 s", "1.00 GiB/s"])
        self.assertEqual([row[0] for row in rounds], ["round 2", "round 3", "round 4", "stop-and-copy"])
        self.assertIn("4.27 GiB, 39 %", texts(page, "dd"))

    def test_the_bars_of_the_blackout_are_as_long_as_its_parts(self):
        bars = [one for one in self.page("good").iter(HTML + "span") if one.get("class") == "bar"]
        measured, predicted = ([part.get("style") for part in bar.iter(HTML + "i")] for bar in bars)
        self.assertEqual(measured, ["width:3.500%", "width:9.500%", "width:46.500%", "width:10.500%"])
        self.assertEqual(predicted, ["width:5.000%", "width:7.500%", "width:42.500%", "width:10.000%"])

    def test_throttling_and_recovery_are_drawn_when_there_were_any(self):
        self.assertIn("How much the guest was slowed down", texts(self.page("eventful"), "h2"))
        self.assertIn("a connection is made anew", texts(self.page("eventful"), "li"))
        self.assertNotIn("How much the guest was slowed down", texts(self.page("good"), "h2"))
        self.assertNotIn("a connection is made anew", texts(self.page("good"), "li"))

    def test_a_failure_says_why_and_where_the_guest_is(self):
        self.assertEqual(
            self.headline("failed"),
            "The migration to ganymede failed after 2.90 s, in the stop-and-copy: send: the peer closed the connection: "
            "ganymede did not answer for 10 s. The guest runs on here, its memory and mappings as before",
        )
        self.assertNotIn("The blackout", texts(self.page("failed"), "h2"))
        self.assertIn("Still to be sent", texts(self.page("failed"), "h2"))

    def test_nothing_recorded(self):
        self.assertEqual(self.headline("empty"), "A migration that has not begun")
        self.assertEqual(self.headline("not_begun"), "The migration failed before it began: connect to peer: already closed. The guest was not handed over")
        for name in ("empty", "not_begun"):
            self.assertEqual(texts(self.page(name), "h2"), ["Facts"])
            self.assertEqual(list(self.page(name).iter(HTML + "script")), [])

    def test_names_stay_text(self):
        page = self.page("hostile")
        self.assertIn("<script>alert(3)</script>", texts(page, "td"))
        self.assertIn("nul\ufffd escape\ufffd[2J \ufffd", texts(page, "td"))
        self.assertIn("</title><script>alert(1)</script>", texts(page, "dd"))
        self.assertNotIn("alert", "".join(texts(page, "script")))
        self.assertEqual(list(page.iter(HTML + "img")), [])
        # A browser that reads it as HTML, not as XML, sees the same.
        self.assertEqual(len(re.findall("<script", self.source("hostile"))), 2)
        self.assertNotIn("<img", self.source("hostile"))

    def test_a_vast_one_is_bounded(self):
        page = self.page("vast")
        self.assertLess(len(self.source("vast")), 500_000)
        self.assertLessEqual(len(list(page.iter(HTML + "tr"))), 2 * 52)
        self.assertIn("253 more", texts(page, "td"))  # RAM blocks

    def test_the_script_has_the_samples(self):
        (samples,) = [one for one in self.page("good").iter(HTML + "script") if one.get("id") == "samples"]
        rows = json.loads(samples.text)
        self.assertEqual({len(row) for row in rows}, {9})
        self.assertEqual([row[0] for row in rows], sorted(row[0] for row in rows))
        last = rows[-1]
        self.assertEqual(float(samples.get("data-end")), last[0])
        self.assertEqual(last[3], 0)  # nothing remains
        self.assertAlmostEqual(sum(last[4:7]) / (1 << 20), 10.86, places=2)  # data, zero, repeated: all that was sent

    def test_lines_stay_within_their_plots(self):
        for name in ("good", "eventful", "failed", "vast"):
            for path in self.page(name).iter(HTML + "path"):
                places = [float(place) for place in re.findall(r"[\d.]+", path.get("d"))]
                self.assertGreater(len(places), 4, name)
                self.assertLessEqual(max(places), 1000, name)


if __name__ == "__main__":
    PAGES = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
