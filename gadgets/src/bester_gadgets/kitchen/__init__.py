"""A bridge to MQTT: devices' topics become pushes to the accounts that subscribed, commands go back (docs/kitchen.md).

What a device says comes in as topics and payloads, from a broker or from a simulated kitchen (:mod:`.broker`,
:mod:`.simulation`), and becomes readings (:mod:`.devices`). Each reading is compared with the rules of those who
subscribed (:mod:`.rules`, :mod:`.subscriptions`); what that makes is told to them (:mod:`.telling`). What clients
ask is read in :mod:`.asking` and answered in :mod:`.service`.
"""
