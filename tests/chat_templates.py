"""Chat templates that tests write rows by: without marks, with marks, and one by which a turn changes once others follow."""

CHATML = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<eos>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""`<|user|>Hi<eos><|assistant|>Hello<eos>`: an answer of n bytes has n + 1 tokens, as EOS ends it."""
MARKED = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}{% if message['role'] == 'assistant' %}{% generation %}"
    "{{ message['content'] + '<eos>' }}{% endgeneration %}{% else %}{{ message['content'] + '<eos>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""The same text, with the marks of assistant turns."""
FORGETFUL = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' and loop.last %}{{ '(thinking)' }}{% endif %}{{ message['content'] + '<eos>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""As templates of models that think do, the last answer begins with something that it loses once another turn follows."""
WITH_TOOLS = "{% if tools %}{{ 'tools:' + (tools | length | string) }}{% endif %}" + CHATML
