"""A program that begins to publish only when it is told to; until then it sleeps."""

import lab

lab.step("silent", lab.process([lab.unpublished(lab.me())]))
lab.publish()
lab.step("published", lab.process([lab.me()]))
