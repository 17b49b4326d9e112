"""Lists of English words that change, or do not change, what a question asks."""

import re
from functools import cache

from spellchecker import SpellChecker


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


QUESTION = _words("who whose whom what which when where why how")
AUXILIARY = _words(
    """is are was were am be do does did can could will would should shall may might must has have
    had"""
)
CLAUSE = QUESTION | AUXILIARY  # the main clause of a question begins with one
# A text that has none of these is no English sentence; words of other languages are left out.
ENGLISH = CLAUSE - _words("am was had") | _words(
    """the of to and for with from by your my i you it this that these those there at if or not any
    about turn find show give tell explain cancel change write make get use list"""
)
# A fronted phrase begins with one of these: "At the pharmacy, can I pay by card?"
FRONTING = _words(
    """at on in for from to with without near during after before under inside outside while if when
    because since until using"""
)

# Questions that begin so ask for the same steps.
HOW = """how do i|how can i|how to|what is the best way for me to|what is the best way to
    |what is the right way to|what is the correct way to|what is the way to
    |what do i need to do to|what do i have to do to|what are the steps to
    |what steps do i take to|what steps do i need to take to"""

# Answers to questions with these words do not keep.
TIME = re.compile(
    r"""\b(?:today|todays|tonight|tonights|tomorrow|tomorrows|yesterday|yesterdays|now|nowadays
    |current(?!\ account)|currently|latest|newest|recent|recently|upcoming|tmrw|tmr|tmw|tom+or+ow
    |tody|tday|2day|2nite|tonite|2moro|2morrow|at\ the\ moment|so\ far|these\ days
    |what\ (?:time|day|date|month|year)\ is\ it|what\ is\ the\ (?:time|date)$
    |(?:this|next|last|past|coming)\ (?:morning|afternoon|evening|night|weekend|week|month|quarter
    |year|season|decade|century|hour|spring|summer|autumn|fall|winter|monday|tuesday|wednesday
    |thursday|friday|saturday|sunday)s?)\b""",
    re.VERBOSE,
)
TIME_MISTYPED = ("today", "tonight", "tomorrow", "yesterday", "current", "currently", "latest")

NUMERALS = _words(
    """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
    hundred thousand million billion trillion dozen half quarter double twice triple once couple
    single both first second third fourth fifth sixth seventh eighth ninth tenth"""
)
DATES = _words(
    """monday tuesday wednesday thursday friday saturday sunday mondays tuesdays wednesdays
    thursdays fridays saturdays sundays january february march april may june july august
    september october november december jan feb mar apr jun jul aug sep sept oct nov dec spring
    summer autumn fall winter morning afternoon evening night noon midnight weekend weekends
    weekday weekdays christmas easter daily weekly monthly yearly annual annually hourly
    fortnightly am pm"""
)
UNITS = _words(
    """mg g kg lb lbs oz ounce ounces gram grams kilogram kilograms pound pounds mcg ml l liter
    liters gallon pint cup cups tbsp tsp tablespoons teaspoons km m cm mm mile miles meter
    meters kilometer kilometers centimeter centimeters foot feet inch inches yard acres seconds
    sec secs minute minutes min mins hour hours hr hrs day days week weeks month months year
    years kb mb gb tb byte bytes bit bits celsius fahrenheit kelvin degree degrees percent usd
    eur gbp dollar dollars euro euros yen pence cent cents watt kw kwh volt amp mph kph rpm hz
    ghz mhz calorie calories"""
)
NEGATIONS = _words(
    """not no never without neither nor none nobody nothing nowhere non un except excluding unless
    hardly barely rarely refuse avoid stop quit prevent fail failed unable lack lacking instead
    rather only other different off out"""
)
COMPARISONS = _words(
    """more less most least fewer fewest greater greatest smaller smallest larger largest bigger
    biggest higher highest lower lowest better best worse worst faster fastest slower slowest
    older oldest younger youngest longer longest shorter shortest cheaper cheapest earlier
    earliest later before after above below over under minimum maximum min max last next previous
    than until since all every each any some always sometimes"""
)

# Two questions with one answer have the same of these words.
SHARED = {
    "number words": NUMERALS,
    "dates": DATES,
    "units": UNITS,
    "negations": NEGATIONS,
    "comparisons": COMPARISONS,
}

# Words that are other words without their capital: read as written inside a sentence.
CAPITALS = _words(
    """us it who aids windows apple turkey polish china march may august word excel teams office
    chrome edge safari mercury orange slack square stripe access pages amazon target jordan chad
    bath reading job gap go swift shell rust signal zoom visa nice mobile pandas"""
)
# Names that a dictionary lacks. A text that holds one does not mistype a common word.
PRODUCTS = _words(
    """redis numpy django conda nginx pytest postgres sqlite github gitlab kotlin scala scipy
    ansible kubernetes flickr tumblr grindr scribd reddit spotify uber lyft xanax zantac celexa
    ativan lasix luvox lexapro websocket regex async json yaml xml voicemail fiverr passwd
    streamlit scapy polars bitcoin litecoin ethereum tiktok snapchat whatsapp revolut monzo
    klarna"""
)

# British spellings, and the American ones with the same meaning.
_SPELLINGS = """
    grey gray | programme program | programmes programs | licence license | licences licenses |
    practise practice | practised practiced | practising practicing | defence defense | offence
    offense | jewellery jewelry | pyjamas pajamas | aluminium aluminum | maths math | mum mom |
    mums moms | ageing aging | judgement judgment | acknowledgement acknowledgment | instal
    install | instalment installment | instalments installments | enrol enroll | enrolment
    enrollment | fulfil fulfill | fulfilment fulfillment | skilful skillful | moustache mustache
    | plough plow | sceptical skeptical | kerb curb | mould mold | doughnut donut | doughnuts
    donuts | yoghurt yogurt | cosy cozy | artefact artifact | artefacts artifacts | paediatric
    pediatric | paediatrician pediatrician | anaesthetic anesthetic | anaemia anemia | diarrhoea
    diarrhea | oestrogen estrogen | foetus fetus | leukaemia leukemia | orthopaedic orthopedic |
    manoeuvre maneuver | learnt learned | burnt burned | dreamt dreamed | tyre tire | tyres
    tires | cheque check | cheques checks | calender calendar | e-mail email | e-mails emails |
    wi-fi wifi | on-line online | web-site website | log-in login | sign-up signup | info
    information | ppl people | abt about | wanna want to | gonna going to | gotta got to | whats
    what is | hows how is | wheres where is | whos who is | thats that is | theres there is | im
    i am | ive i have | youre you are | theyre they are | cannot can not | cant can not | wont
    will not | shant shall not | dont do not | doesnt does not | didnt did not | isnt is not |
    arent are not | wasnt was not | werent were not | hasnt has not | havent have not | hadnt
    had not | couldnt could not | wouldnt would not | shouldnt should not | mustnt must not |
    neednt need not | mightnt might not
"""
SPELLINGS = {
    entry.split()[0]: tuple(entry.split()[1:]) for entry in _SPELLINGS.split("|") if entry.strip()
}
PATTERNS = [
    (re.compile(pattern, re.VERBOSE), replacement)
    for pattern, replacement in (
        (
            r"""^(col|fav|flav|hon|hum|lab|neighb|behavi|rum|harb|od|vap|arm|endeav|savi|parl|vig|val
            |splend|tum|glam|misdemean|discol|dishon)our""",
            r"\1or",
        ),
        (
            r"""^((?:re|un|de|dis)?(?:organ|real|recogn|apolog|author|categor|character|critic|custom
            |digit|final|general|maxim|minim|normal|optim|personal|popular|prior|special|standard
            |summar|symbol|synchron|util|visual|initial|serial|central|capital|immun|memor|local
            |legal|equal|token|random|modern|mobil|stabil|steril|hospital|monet|polar|social|emphas
            |harmon|neutral|scrutin|crystal|commercial|colon|familiar|moral|national|item|union
            |vector|parallel|anonym|subsid|vapor|oxid|pressur))
            is(e|ed|es|er|ers|ing|ation|ations|able)$""",
            r"\1iz\2",
        ),
        (r"^(anal|paral|catal)ys(e|ed|er|es|ing)$", r"\1yz\2"),
        (
            r"""^(cancel|travel|label|model|signal|fuel|level|dial|tunnel|total|channel|marvel|counsel
            |pedal|quarrel|initial)l(ed|ing|er|ers|or|ors)$""",
            r"\1\2",
        ),
        (r"^(cent|theat|fib|lit|met|kilomet|centimet|millimet|somb|spect|meag)re(s?)$", r"\1er\2"),
        (r"^(catal|dial|monol|prol|epil)ogue(s?)$", r"\1og\2"),
    )
]
KEYS = "qwertyuiop asdfghjkl zxcvbnm"


@cache
def _dictionary() -> frozenset[str]:
    words = SpellChecker(language="en").word_frequency.words()
    return frozenset(words) | PRODUCTS | frozenset(w for to in SPELLINGS.values() for w in to)


def is_word(word: str) -> bool:
    """Tell whether a dictionary has it. The first call reads the dictionary: about 0.2 s."""
    return word in _dictionary()


def is_slip(wrong: str, right: str) -> bool:
    """Tell whether one slip of the fingers makes ``wrong`` of ``right``.

    A slip leaves out or swaps letters inside a word, or hits the key beside the right one.
    Other letters, and another end, make another word: network, networkx; cake, cmake.
    """
    longer, shorter = sorted((wrong, right), key=len, reverse=True)
    if wrong == right or wrong[0] != right[0] or len(shorter) < 5 or len(longer) > len(shorter) + 1:
        return False
    differences = (i for i, (x, y) in enumerate(zip(wrong, right, strict=False)) if x != y)
    at = next(differences, len(shorter))
    if len(wrong) == len(right):
        if wrong[at : at + 2] == right[at : at + 2][::-1]:
            return wrong[at + 2 :] == right[at + 2 :]
        inside = at < len(wrong) - 1 and wrong[at + 1 :] == right[at + 1 :]
        return inside and _is_beside(wrong[at], right[at])
    if longer[at + 1 :] != shorter[at:] or at == len(shorter):
        return False
    added = wrong[at]
    return wrong == shorter or any(_is_beside(added, wrong[i]) for i in (at - 1, at + 1))


def _is_beside(x: str, y: str) -> bool:
    """Tell whether two keys are neighbours. Vowels are also mixed up by those who spell by ear."""
    return x == y or x + y in KEYS or y + x in KEYS or {x, y} <= set("aeiou")
