"""Thousands of threads: at once, and one after another."""

import sys
import threading

import lab

lab.publish()
at_once, churn = int(sys.argv[1]), int(sys.argv[2])
threading.stack_size(64 * 1024)

crowd = lab.Attendance()
people = crowd.start("stays")
names = [None if number % 2 else "thread number %d" % number for number in range(at_once)]
others = lab.Attendance()
lab.step("%d at once" % at_once, lab.process([lab.me(), *people, *others.start(*names)]))
others.dismiss()
lab.step("all gone", lab.process([lab.me(), *people]))

people += crowd.start("born before the churn", None)
for number in range(churn):
    thread = threading.Thread(target=int, name="short %d" % number)
    thread.start()
    if number % 7:
        thread.join()
lab.wait_for(lambda: len(lab.tasks()) == 1 + len(people), "the end of all short threads")
people += crowd.start("born after the churn", None)
lab.step("after %d short ones" % churn, lab.process([lab.me(), *people]))
crowd.dismiss()
