"""tus 1.0: uploads that are gone on with where they broke off.

Source of all of it: the tus resumable upload protocol 1.0.0 (github.com/tus/
tus-resumable-upload-protocol, protocol.md), whose sections the modules name.
"""
