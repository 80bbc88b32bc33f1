"""Births, deaths, renames and forks by a random schedule; every process says what it has used.

Arguments: a word to be found by, a seed, and seconds. Threads called "plain" keep their names and
say what they have used; the others change theirs. Forked children do as their parent does for a
while, and then wait to be looked at; a few end at once, and what those have used is unknown.
"""

import json
import os
import random
import sys
import threading
import time

import lab
import load_lab

lab.publish()

MS = 1_000_000


class Life:
    """What one process does, and what its plain threads have used."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.threads = []
        self.used = []
        self.children = []
        self.brief_ns = 0

    def run(self, seconds, *, forks):
        """Do things at random, and come to rest."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            what = self.chance.choice(("plain", "fickle", "brief", "brief", "fork", "burn", "wait"))
            if what == "fork":
                if forks:
                    self.fork(end - time.monotonic())
            elif what == "burn":
                load_lab.burn(self.chance.randrange(5 * MS))
            elif what == "wait" or len(self.threads) > 30:
                time.sleep(self.chance.random() / 20)
            else:
                self.start(what, self.chance.randrange(1 << 30))
            self.threads = [thread for thread in self.threads if thread.is_alive()]
        for thread in self.threads:
            thread.join()

    def start(self, what, seed):
        """Start a thread."""
        thread = threading.Thread(
            target=getattr(self, what), args=(random.Random(seed),), name=what
        )
        thread.start()
        self.threads.append(thread)

    def plain(self, chance):
        """Work and sleep by turns under one name."""
        for _ in range(chance.randrange(1, 20)):
            load_lab.burn(chance.randrange(3 * MS))
            time.sleep(chance.random() / 50)
        self.used.append(time.thread_time_ns())

    def brief(self, chance):
        """Work and end."""
        load_lab.burn(chance.randrange(2 * MS))

    def fickle(self, chance):
        """Work under many names."""
        for _ in range(chance.randrange(1, 20)):
            threading.current_thread().name = "fickle %d" % chance.randrange(3)
            load_lab.burn(chance.randrange(3 * MS))
            time.sleep(chance.random() / 50)

    def fork(self, seconds):
        """Fork a child."""
        brief = self.chance.random() < 0.7
        if not brief and len(self.children) > 3:
            return
        told, tell = os.pipe()
        seed = self.chance.randrange(1 << 30)
        pid = os.fork()
        if pid:
            os.close(tell)
            if brief:
                with open(told, "rb") as said:
                    guess_ns = int(said.read())
                _, _, used = os.wait4(pid, 0)
                # its end can take longer than it guesses: the machine may be slow
                self.brief_ns += max(guess_ns, round((used.ru_utime + used.ru_stime) * 1e9))
            else:
                self.children.append(told)
            return
        try:
            if brief:
                load_lab.burn(MS)
                os.write(tell, b"%d" % (time.process_time_ns() + MS))
            else:
                life = Life(seed)
                life.run(seconds * life.chance.random(), forks=False)
                lab.write_all(tell, json.dumps(life.account()).encode())
                os.close(tell)
                load_lab.park()
        finally:
            os._exit(0)

    def account(self):
        """What this process has used, now that it is at rest."""
        return {
            "process_ns": load_lab.quiet(),
            "plain_ns": sum(self.used),
            "plain": len(self.used),
        }


def main(seed, seconds):
    """Live, and add up what the children say."""
    life = Life(int(seed))
    load_lab.tell("ready")
    load_lab.hold()
    life.run(float(seconds), forks=True)
    accounts = []
    for told in life.children:
        with open(told, "rb") as said:
            accounts.append(json.loads(said.read()))
    accounts.append(life.account())
    load_lab.tell(
        "done",
        brief_ns=life.brief_ns,
        processes=len(accounts),
        **{key: sum(account[key] for account in accounts) for key in accounts[0]},
    )
    load_lab.hold()
    os._exit(0)


main(*sys.argv[2:])
