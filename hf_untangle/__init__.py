"""Open Hugging Face models up and take capabilities out of them.

    import hf_untangle as untangle

    result = untangle.unlearn(model, forget="code")
    result.save_pretrained("model-without-code")

Names and rooms are imported when they are first used; `__init__.pyi` lists them. Importing this package changes nothing in
transformers.
"""

from hf_untangle.doors import open_door

open_door(__name__)
