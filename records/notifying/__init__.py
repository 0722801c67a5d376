"""Telling people outside the console what happened, by rules of their own.

`rules` decides who is told of an event and when, in the transaction that stores it; `sending` tells them, again and again until
it is taken or given up; `apprise_channel` and `webhooks` speak to the services; `texts` writes what they say.
"""
