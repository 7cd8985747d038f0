"""What schemathesis cannot know from the description.

The header Idempotency-Key names one request. Generated keys repeat, and another request under
a key is refused, as it should be: so each valid key becomes one of its own.
"""

import re
import uuid

import schemathesis

KEY = "Idempotency-Key"


@schemathesis.hook
def before_call(context, case, kwargs):
    key = (case.headers or {}).get(KEY)
    if isinstance(key, str) and re.fullmatch('"[!-~]{1,255}"|[!#-~][!-~]{0,254}', key):
        case.headers[KEY] = str(uuid.uuid4())
