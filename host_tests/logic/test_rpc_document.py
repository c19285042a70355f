"""Every definition, request and response of the service's document, word for word."""

import json

from rpc_rig import BACKEND, DEVICE, Rig

from tapauth.rpc import definitions

DEFINITIONS = {
    "GenerateToken": """
{
  "doc": "Returns auth token for the given app.",
  "args": {
    "host": {
      "doc": "Hostname of the app.",
      "type": "string"
    }
  },
  "required_args": [
    "host"
  ],
  "result": {
    "type": "object",
    "properties": {
      "token": {
        "type": "string"
      }
    }
  }
}
""",
    "Authenticate": """
{
  "doc": "Authenticate returns true if `id` is verified to have valid credentials.",
  "args": {
    "credentials": {
      "doc": "Credentials presented by the entity. At least one of `psk` or `cert` must be present.",
      "type": "object",
      "properties": {
        "psk": {
          "type": "string"
        },
        "cert": {
          "type": "string"
        }
      }
    },
    "id": {
      "doc": "ID of an entity to authenticate.",
      "type": "string"
    }
  },
  "required_args": [
    "id",
    "credentials"
  ],
  "result": {
    "doc": "`true` if credentials are valid, `false` otherwise.",
    "type": "boolean"
  }
}
""",  # noqa: E501
    "ListToken": """
{
  "doc": "Returns the list of apps for which tokens were generated.",
  "result": {
    "items": {
      "type": "object",
      "properties": {
        "host": {
          "type": "string"
        }
      }
    },
    "type": "array"
  }
}
""",
    "AuthorizeCommand": """
{
  "doc": "AuthorizeCommand returns true if `src` is allowed to send a given command to `dst`.",
  "args": {
    "src": {
      "doc": "ID of the command sender.",
      "type": "string"
    },
    "dst": {
      "doc": "ID of the command recipient.",
      "type": "string"
    },
    "cmd": {
      "doc": "Command name.",
      "type": "string"
    }
  },
  "required_args": [
    "src",
    "dst",
    "cmd"
  ],
  "result": {
    "doc": "`true` if the command is allowed, `false` otherwise.",
    "type": "boolean"
  }
}
""",
    "RevokeToken": """
{
  "doc": "Revokes auth token for the given app.",
  "args": {
    "host": {
      "doc": "Hostname of the app.",
      "type": "string"
    }
  },
  "required_args": [
    "host"
  ]
}
""",
    "GetToken": """
{
  "doc": "Returns auth token for the given app.",
  "args": {
    "host": {
      "doc": "Hostname of the app.",
      "type": "string"
    }
  },
  "required_args": [
    "host"
  ],
  "result": {
    "type": "object",
    "properties": {
      "token": {
        "doc": "Token value. Not present if `exist` is `false`.",
        "type": "string"
      },
      "exist": {
        "doc": "`true` if token for the app was generated previously.",
        "type": "boolean"
      }
    }
  }
}
""",
}

AUTHENTICATE_REQUEST = """
{
  "v": 1,
  "src": "//api.cesanta.com/cloud.dispatcher",
  "dst": "//api.cesanta.com/cloud.registry",
  "cmds": [
    {
      "cmd": "/v1/Auth.Authenticate",
      "id": 123,
      "args": {
        "id": "//api.cesanta.com/device_123",
        "credentials": {
          "psk": "qwerty"
        }
      }
    }
  ]
}
"""

AUTHENTICATE_RESPONSE = """
{
  "v": 1,
  "src": "//api.cesanta.com/cloud.registry",
  "dst": "//api.cesanta.com/cloud.dispatcher",
  "resp": [
    {
      "id": 123,
      "status": 0,
      "resp": true
    }
  ]
}
"""

AUTHORIZE_COMMAND_REQUEST = """
{
  "v": 1,
  "src": "//api.cesanta.com/cloud.dispatcher",
  "dst": "//api.cesanta.com/cloud.registry",
  "cmds": [
    {
      "cmd": "/v1/Auth.AuthorizeCommand",
      "id": 123,
      "args": {
        "cmd": "/v1/Nuke.Launch",
        "dst": "//api.cesanta.com/misslecontrol",
        "src": "//api.cesanta.com/device_123"
      }
    }
  ]
}
"""

AUTHORIZE_COMMAND_RESPONSE = """
{
  "v": 1,
  "src": "//api.cesanta.com/cloud.registry",
  "dst": "//api.cesanta.com/cloud.dispatcher",
  "resp": [
    {
      "id": 123,
      "status": 0,
      "resp": false
    }
  ]
}
"""


def test_every_definition():
    served = definitions.services()["/v1/Auth"]["methods"]
    assert sorted(served) == sorted(DEFINITIONS)
    for name, text in DEFINITIONS.items():
        assert served[name] == json.loads(text), name
        assert definitions.definition(definitions.COMMANDS["/v1/Auth." + name]) == served[name]


def test_authenticate():
    # The examples carry no key: their connection has shown it before.
    rig = Rig()
    rig.add(DEVICE, psk="qwerty")
    assert rig.ask(AUTHENTICATE_REQUEST, rig.pinned()) == json.loads(AUTHENTICATE_RESPONSE)


def test_authorize_command():
    # Denied by a rule, and denied because there is none.
    launch = {"src": BACKEND[:-5] + "device_*", "cmd": "/v1/Nuke.*", "allow": False}
    for rules in ([launch, {"allow": True}], [], None):
        rig = Rig(rules)
        answer = rig.ask(AUTHORIZE_COMMAND_REQUEST, rig.pinned())
        assert answer == json.loads(AUTHORIZE_COMMAND_RESPONSE)
    rig = Rig([{"allow": True}])
    allowed = json.loads(AUTHORIZE_COMMAND_RESPONSE)
    allowed["resp"][0]["resp"] = True
    assert rig.ask(AUTHORIZE_COMMAND_REQUEST, rig.pinned()) == allowed


def test_the_order_of_the_members_is_the_documents():
    rig = Rig()
    rig.add(DEVICE, psk="qwerty")
    text = rig.service.handle(AUTHENTICATE_REQUEST, rig.pinned())
    assert text == "".join(AUTHENTICATE_RESPONSE.split())


def test_the_examples_need_an_authenticated_source():
    rig = Rig()
    rig.add(DEVICE, psk="qwerty")
    assert rig.ask(AUTHENTICATE_REQUEST)["resp"] == [
        {"id": 123, "status": 401, "status_msg": "not authenticated"}
    ]
