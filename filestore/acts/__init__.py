"""What people do to the service: each act is one transaction, with its audit row and event.

An act takes the database and who acts, checks what only the rows can tell, and returns a
record. It knows no protocol: HTTP and the command line call the same acts. An act may run
again as a whole when its transaction meets a deadlock, so it changes nothing but rows.
"""
