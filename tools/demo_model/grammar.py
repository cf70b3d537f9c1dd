"""A grammar of little stories: the demo model's only training data.

`story(number)` is a pure function. Each of its ten plots runs from a wish over a problem and a helper to a
good end, and what a story has said it keeps to: who is he or she, what was lost where, who can fly and who
can dig.

Templates are format strings over the story's facts. The names of facts that start with a capital letter give
words for the start of a sentence ("{He} looked up."); those ending in _a carry their article ("an old owl").
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

__all__ = ["PLOTS", "hero_name", "stories", "story", "vocabulary", "words"]

# fmt: off
GIRL_NAMES = (
    "Lily", "Mia", "Anna", "Rosa", "Nora", "Emma", "Ella", "Lucy", "Ruby", "Zoe", "Ivy", "Clara",
    "Mina", "Sara", "Tina", "Luna", "Amy", "Maya",
)
BOY_NAMES = (
    "Tom", "Ben", "Max", "Sam", "Leo", "Tim", "Jack", "Finn", "Noah", "Oscar", "Hugo", "Paul", "Milo",
    "Otto", "Theo", "Dan", "Nico", "Jon",
)
FRIEND_NAMES = (
    "Pip", "Dot", "Bo", "Kiki", "Momo", "Rusty", "Daisy", "Pepper", "Toby", "Bella", "Coco", "Lulu",
)
# Syllables of names that nobody has heard; a vowel said twice is as often chosen.
NAME_STARTS = (
    "B", "D", "F", "G", "H", "J", "K", "L", "M", "N", "P", "R", "S", "T", "V", "W", "Z", "Br", "Dr",
    "Fl", "Gr", "Kl", "Tr",
)
NAME_MIDDLES = (
    "a", "e", "i", "o", "u", "a", "e", "i", "o",
)
NAME_ENDS = (
    "lo", "mi", "na", "ra", "bo", "di", "ri", "ly", "ro", "vin", "mon", "rik", "nel", "ma", "ta", "so",
    "ko", "la", "bert",
)
# fmt: on

HELPER_TRAITS = ("friendly", "small", "old", "wise", "big", "gray", "young")
TRAITS = ("little", "kind", "brave", "curious", "happy", "clever", "quiet", "cheerful", "young", "gentle")
HERO_ANIMALS = ("rabbit", "fox", "mouse", "bear", "hedgehog", "kitten", "puppy")
WOMEN = ("mother", "grandma", "aunt")
MEN = ("father", "grandpa", "uncle")
HOMES = (
    "in a small house by the sea",
    "in a little village near the forest",
    "on a green hill",
    "at the end of a long road",
    "next to the old mill",
    "in a quiet valley",
    "near a big lake",
    "in a cozy house under a tall tree",
)
COLORS = ("red", "blue", "green", "yellow", "white", "orange", "golden", "shiny", "little", "pretty")
WEATHER = ("sunny", "warm", "bright", "windy", "cool", "cloudy")
DAY_TIMES = ("morning", "day", "afternoon")
FOODS = ("bread", "cake", "cheese", "apple pie", "melon")
# place -> things there that one can look under or behind
PLACES = {
    "the forest": ("old log", "mossy stone", "green bush", "pile of leaves"),
    "the park": ("bench", "slide", "big tree", "flower bed"),
    "the beach": ("big rock", "old boat", "pile of sand", "beach chair"),
    "the market": ("long table", "fruit cart", "tall basket", "empty box"),
    "the farm": ("barn", "wooden fence", "pile of hay", "water tub"),
    "the garden": ("flower pot", "garden gate", "rose bush", "stone wall"),
}
GAMES = ("hide and seek", "tag", "with a ball", "in the tall grass", "by the water")
MORALS = (
    "{name} learned that {lesson}.",
    "And so {name} learned that {lesson}.",
    "That day, {name} learned that {lesson}.",
    "{He} never forgot that {lesson}.",
    "From that day on, {name} knew that {lesson}.",
)

Facts = dict[str, str]


class _Teller:
    """One story in the making: its random choices, its facts and the sentences told so far."""

    def __init__(self, number: int) -> None:
        self.random = random.Random(number)
        self.facts: Facts = {}
        self.sentences: list[str] = []

    def choose(self, *options: str) -> str:
        return self.random.choice(options)

    def know(self, **facts: str) -> None:
        """Add facts; each also gets its capitalized form and its form with an article."""
        for key, value in facts.items():
            self.facts[key] = value
            self.facts[key[0].upper() + key[1:]] = value[:1].upper() + value[1:]
            self.facts[key + "_a"] = with_article(value)
            self.facts[key[0].upper() + key[1:] + "_a"] = with_article(value).capitalize()

    def say(self, *variants: str) -> None:
        """Tell one of the variants."""
        self.sentences.append(self.choose(*variants).format_map(self.facts))

    def maybe(self, *variants: str) -> None:
        """Tell one of the variants, or none."""
        if self.random.random() < 0.5:
            self.say(*variants)

    def person(self, prefix: str, female: bool) -> None:
        """Pronouns of a character under `prefix`: he, his, him as in 'he came', 'his hat', 'saw him'."""
        he, his, him = ("she", "her", "her") if female else ("he", "his", "him")
        self.know(**{prefix + "he": he, prefix + "his": his, prefix + "him": him})

    def introduce(self) -> None:
        """The hero with name, kind, family and home, and the first sentences."""
        female = self.random.random() < 0.5
        self.person("", female)
        name = self.random.choice(GIRL_NAMES if female else BOY_NAMES)
        if self.random.random() < 0.25:
            # Names that nobody has heard teach the network to copy a name instead of remembering it.
            name = self.invented_name()
        animal = self.random.random() < 0.35
        kind = self.choose(*HERO_ANIMALS) if animal else ("girl" if female else "boy")
        elder_female = self.random.random() < 0.5
        self.person("e", elder_female)
        self.know(
            name=name,
            kind=kind,
            trait=self.choose(*TRAITS),
            elder=self.choose(*(WOMEN if elder_female else MEN)),
            home=self.choose(*HOMES),
            weather=self.choose(*WEATHER),
            day=self.choose(*DAY_TIMES),
            food=self.choose(*FOODS),
        )
        self.know(who=f"{self.facts['trait']} {kind}")
        self.say(
            "Once upon a time, there was {who_a} named {name}. {He} lived with {his} {elder} {home}.",
            "Once upon a time, there was {who_a} named {name} who lived {home}.",
            "Once upon a time, {who_a} named {name} lived {home} with {his} {elder}.",
            "Once upon a time there lived {who_a} whose name was {name}. {His} home was {home}.",
            "There once was {who_a} named {name}. {He} lived {home}.",
            "{name} was {who_a}. {He} lived with {his} {elder} {home}.",
            "Long ago, {who_a} named {name} lived {home}.",
        )

    def invented_name(self) -> str:
        """One or two made-up syllables and an end."""
        start = self.choose(*NAME_STARTS)
        middle = self.choose(*NAME_MIDDLES)
        end = self.choose(*NAME_ENDS)
        return start + middle + end

    def helper(self, *kinds: str) -> None:
        """A helper of one of these kinds, not of the hero's own, with a pronoun and an adjective."""
        choices = [kind for kind in kinds if kind != self.facts["kind"]]
        self.person("h", self.random.random() < 0.5)
        kind = self.choose(*choices)
        self.know(h=kind, hwho=f"{self.choose(*HELPER_TRAITS)} {kind}")

    def place(self) -> None:
        """A place and three different things in it."""
        place = self.choose(*PLACES)
        first, second, third = self.random.sample(PLACES[place], 3)
        at = "at" if place in ("the beach", "the market", "the farm") else "in"
        self.know(place=place, at=at, spot=first, spot2=second, spot3=third)

    def thing(self, *things: str) -> None:
        """The thing that the story is about: 'ball' as o, 'red ball' as obj."""
        thing = self.choose(*things)
        self.know(o=thing, obj=f"{self.choose(*COLORS)} {thing}")

    def one_day(self, rest: str) -> None:
        """A sentence that opens the events: 'One sunny morning, …'."""
        self.say(
            f"One {{weather}} {{day}}, {rest}.",
            f"One {{day}}, {rest}.",
            f"On {{weather_a}} {{day}}, {rest}.",
        )

    def ask_why(self, trouble: str) -> None:
        """The helper meets the hero, who tells the trouble, a clause in the first person."""
        self.say(
            "Just then, {hwho_a} came by.",
            "Soon {hwho_a} came along the path.",
            "Then {name} met {hwho_a}.",
            "{Hwho_a} heard {him} and came closer.",
        )
        self.say(
            f'"Why are you so sad?" asked the {{h}}. "{trouble}," said {{name}}.',
            f'"What is wrong?" the {{h}} asked. "{trouble}," {{name}} answered.',
            f'"Hello, {{kind}}! Can I help you?" said the {{h}}. "Yes, please! {trouble}," said {{name}}.',
            f'"Please do not cry," said the {{h}}. "{trouble}," said {{name}} in a small voice.',
        )

    def thank(self) -> None:
        self.say(
            '"Thank you so much!" said {name}. {He} gave the {h} a big piece of {food}.',
            '{name} jumped for joy. "Thank you, dear {h}!" {he} said.',
            '"You are the best {h} in the world!" said {name}, and {he} gave {hhim} a hug.',
            '{name} smiled and hugged the {h}. "Thank you for your help," {he} said.',
            '"Thank you!" said {name}. "You are welcome," said the {h} with a smile.',
        )

    def end(self, *lessons: str) -> None:
        """A last scene, the lesson, and sometimes the two words."""
        self.know(lesson=self.choose(*lessons))
        self.maybe(
            "That evening, {name} told {his} {elder} the whole story.",
            "{His} {elder} was very proud of {him}.",
            "At night, {name} went to bed with a smile.",
            "{name} was so happy that {he} sang all the way home.",
        )
        self.say(*MORALS)
        self.maybe("The end.")

    def text(self) -> str:
        return " ".join(self.sentences)


def with_article(noun: str) -> str:
    """'owl' -> 'an owl'. The grammar has no word whose first letter misleads ('hour', 'unicorn')."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


# helper kind -> how it offers to search, and how it finds the thing
SEARCHERS = {
    "dog": (
        "I have a very good nose",
        "The dog smelled the ground and ran to the {spot3}. There was the {obj}!",
    ),
    "crow": (
        "I can see everything from the sky",
        'The crow flew up high and looked around. "I see it!" {hhe} called. The {o} was behind the {spot3}!',
    ),
    "mouse": (
        "I can look into every small hole",
        "The mouse went into a small hole under the {spot3}. Soon {hhe} came out with the {obj}!",
    ),
    "cat": (
        "I have very sharp eyes",
        "The cat looked here and there with {hhis} sharp eyes. Then {hhe} saw the {obj} behind the {spot3}!",
    ),
    "mole": (
        "I can dig very fast",
        "The mole began to dig next to the {spot3}. Deep in the ground, {hhe} found the {obj}!",
    ),
}


def lost_thing(t: _Teller) -> None:
    t.place()
    t.thing("ball", "hat", "scarf", "bell", "ring", "book", "drum", "doll", "key", "coin", "cup")
    t.helper(*SEARCHERS)
    t.say(
        "{name} had {obj_a}, and {he} took it everywhere.",
        "{name} loved {his} {obj} more than anything.",
        "{His} {elder} had given {him} {obj_a}, and {name} loved it very much.",
        "The best thing {name} had was {obj_a}.",
    )
    t.one_day("{name} went to {place} to play with {his} friends")
    t.say(
        "But when it was time to go home, the {o} was gone.",
        "After some time, {he} saw that the {o} was gone.",
        "{He} put the {o} down for a moment, and then {he} could not find it.",
    )
    t.say('"Oh no! Where is my {o}?" {he} cried.', '"My {o} is gone!" said {name}, and {he} began to cry.')
    t.say(
        "{name} looked under the {spot} and behind the {spot2}, but the {o} was not there.",
        "{He} looked behind the {spot}. No {o}! {He} looked under the {spot2}. No {o}!",
        "{name} looked everywhere, even under the {spot}, but {he} could not find it.",
    )
    t.ask_why(t.choose("I lost my {obj}", "I cannot find my {obj}", "My {obj} is gone"))
    offer, finding = SEARCHERS[t.facts["h"]]
    t.say(
        f'"{offer}," said the {{h}}. "I will help you."',
        f'"I can help you," said the {{h}}. "{offer}."',
    )
    t.say(finding)
    t.thank()
    t.end(
        "friends help each other",
        "a good friend is better than any {o}".format_map(t.facts),
        "it is good to ask for help",
    )


CLIMBERS = {
    "squirrel": "The squirrel ran up {high} as fast as the wind and threw the {o} down.",
    "cat": "The cat climbed up {high} on soft feet and pushed the {o} down.",
    "monkey": "The monkey climbed up {high} with {hhis} long arms and came back with the {o}.",
    "crow": "The crow opened {hhis} black wings, flew up to {high} and took the {o} in {hhis} feet.",
    "owl": "The owl flew up to {high} without a sound and brought the {o} back.",
    "giraffe": "The giraffe had a very long neck. {Hhe} just reached up to {high} and took the {o} down.",
}


def stuck_thing(t: _Teller) -> None:
    t.thing("kite", "ball", "balloon", "hat", "scarf", "paper plane")
    t.helper(*CLIMBERS)
    t.know(high=t.choose("the tall tree", "the roof of the barn", "the old tower", "the roof of the mill"))
    t.say(
        "{name} had something new. It was {obj_a}.",
        "{His} {elder} made {obj_a} for {him}.",
        "For {his} birthday, {name} got {obj_a}.",
    )
    t.one_day("{name} took the {o} outside to play")
    t.say(
        "A strong wind came and carried the {o} up, up, up. It got stuck on top of {high}.",
        "Suddenly the wind took the {o} away, and it landed on {high}.",
        "But the wind blew hard, and the {o} flew up to the top of {high}.",
    )
    t.say('"Come back!" cried {name}.', '"Oh no, my {o}!" cried {name}.', "{name} did not know what to do.")
    t.say(
        "{He} jumped as high as {he} could, but {he} could not reach it.",
        "{He} threw a stick at it, but the {o} did not move.",
        "{He} tried to climb up, but it was much too high for {him}.",
    )
    t.ask_why(t.choose("My {o} is stuck up there", "The wind took my {o}", "I cannot reach my {obj}"))
    t.say(
        '"That is easy for me," said the {h}.',
        '"Wait here," said the {h}. "I will get it for you."',
        '"Do not worry," said the {h}. "High places are fun for me."',
    )
    t.say(CLIMBERS[t.facts["h"]])
    t.thank()
    t.maybe("They played with the {obj} together until the sun went down.")
    t.end("everyone is good at something", "it is good to ask for help", "friends can do more together")


# thing to make -> what is missing, how it is put to use
RECIPES: dict[str, tuple[str, ...]] = {
    "cake": ("flour", "honey", "eggs"),
    "pie": ("apples", "flour", "eggs"),
    "soup": ("carrots", "potatoes"),
    "kite": ("string", "paper"),
    "boat": ("rope", "wood"),
    "swing": ("rope", "wood"),
    "bird house": ("wood", "nails"),
}
# what is missing -> who has it, and the chore to be done for it
OWNERS = {
    "flour": ("miller", "carry these heavy bags"),
    "honey": ("bee", "water my flowers"),
    "eggs": ("hen", "clean my nest"),
    "apples": ("farmer", "feed the pigs"),
    "carrots": ("farmer", "wash the muddy cart"),
    "potatoes": ("farmer", "feed the pigs"),
    "string": ("spider", "sweep my corner"),
    "paper": ("teacher", "clean the school room"),
    "rope": ("sailor", "paint my old boat"),
    "wood": ("woodman", "carry these heavy logs"),
    "nails": ("smith", "sweep the floor"),
}
CHORE_DONE = {
    "carry": "carried",
    "water": "watered",
    "clean": "cleaned",
    "feed": "fed",
    "wash": "washed",
    "sweep": "swept",
    "paint": "painted",
}


def make_thing(t: _Teller) -> None:
    made = t.choose(*RECIPES)
    missing = t.choose(*RECIPES[made])
    owner, chore = OWNERS[missing]
    verb, rest = chore.split(" ", 1)
    t.person("h", t.random.random() < 0.5)
    their = rest.replace("my", "{hhis}").replace("these", "the").format_map(t.facts)
    t.know(made=made, missing=missing, h=owner, chore=chore, chore_done=f"{CHORE_DONE[verb]} {their}")
    t.say(
        "{name} wanted to make {made_a} for {his} {elder}.",
        "It was the birthday of {his} {elder}, and {name} wished to make {made_a} for {ehim}.",
        "{name} had a plan. {He} wanted to surprise {his} {elder} with {made_a}.",
    )
    t.one_day("{name} began to work")
    t.say(
        "But there was a problem. {He} had no {missing}.",
        'But then {he} stopped. "Oh dear, I have no {missing}!" {he} said.',
        "{He} looked all over the house, but there was no {missing} at all.",
    )
    t.say(
        "So {name} went to see the {h}.",
        "{name} walked down the road until {he} came to the {h}.",
        "{name} thought for a while. Then {he} went to the {h}.",
    )
    t.say(
        '"Hello, {h}! May I have some {missing}?" {he} asked. "I want to make {made_a}."',
        '"Please, can you give me some {missing} for my {made}?" asked {name}.',
    )
    t.say(
        '"Yes," said the {h}, "but first, please {chore}."',
        '"If you {chore}, I will give you some," said the {h}.',
        'The {h} smiled. "I am so tired today. Please {chore}, and you can have all you need."',
    )
    t.say(
        "{name} {chore_done} and did not stop until all the work was done.",
        "{name} {chore_done}. It was hard work, but {he} did it well.",
        "So {name} {chore_done} and sang a song.",
    )
    t.say(
        '"Well done!" said the {h}, and {hhe} gave {him} the {missing}.',
        "The {h} was very happy and gave {him} a lot of {missing}.",
    )
    t.say(
        "{name} ran home and made the {made}.",
        "Back at home, {name} made a wonderful {made}.",
        "Then {name} went home and finished the {made} before evening.",
    )
    t.say(
        'When {his} {elder} saw it, {ehe} smiled. "This is the best {made} in the world!" {ehe} said.',
        '"What a wonderful surprise!" said {his} {elder}, and {ehe} hugged {name}.',
        "{His} {elder} was so happy that {ehe} danced around the table.",
    )
    t.end(
        "good work brings good things",
        "a gift made with love is the best gift",
        "helping others helps you too",
    )


# in trouble where -> how the hero gets the animal out
TRAPS = {
    "stuck in the mud": (
        "{name} took a long branch and pulled with all {his} strength. Pop! The {h} was out of the mud."
    ),
    "stuck in a net": "{name} opened the knots of the net one by one. Soon the {h} was free.",
    "stuck in a deep hole": "{name} put a long branch into the hole, and the {h} climbed up.",
    "stuck in a thorny bush": "{name} pushed the thorns away very slowly, and the {h} came out.",
    "stuck under a heavy stone": "{name} pushed the stone with all {his} strength, and it rolled away.",
}


def lonely_hero(t: _Teller) -> None:
    t.place()
    t.helper("rabbit", "squirrel", "hedgehog", "fox", "duck", "frog", "lamb", "kitten")
    trap = t.choose(*TRAPS)
    t.know(
        trap=trap,
        hname=t.random.choice([n for n in FRIEND_NAMES if n != t.facts["name"]]),
        game=t.choose(*GAMES),
    )
    t.say(
        "{name} had no one to play with, and {he} wished for a friend.",
        "{name} was often alone. More than anything, {he} wanted a friend.",
        "But {name} was lonely. {He} wished {he} had a friend.",
    )
    t.one_day("{name} went for a walk to {place}")
    t.say(
        'Suddenly {he} heard a small voice. "Help! Help!" it cried.',
        'Near the {spot}, {he} heard a cry. "Please help me!"',
        "{He} heard someone crying behind the {spot}.",
    )
    t.say("It was {hwho_a}, {trap}.", "There {he} saw {hwho_a}. The poor {h} was {trap}.")
    t.say(
        '"I will help you," said {name}.',
        '"Do not be afraid," said {name}. "I will get you out."',
        '"Stay calm," said {name}. "I am here now."',
    )
    t.say(TRAPS[trap])
    t.say(
        '"Thank you! My name is {hname}," said the {h}. "I am {name}," said the {kind}.',
        '"You saved me!" said the {h}. "I am {hname}. What is your name?" "My name is {name}."',
    )
    t.say(
        '"Will you be my friend?" asked {hname}. "Yes!" said {name} with a big smile.',
        '"Do you want to play with me?" asked {name}. "I would love to," said {hname}.',
    )
    t.say(
        "{name} and {hname} played {game} until the sun went down.",
        "All day long, {name} and {hname} played {game}.",
    )
    t.say(
        "From that day on, {name} was never lonely again.",
        "Now {name} and {hname} meet every day.",
        "They were best friends from then on.",
    )
    t.end(
        "a kind heart finds friends",
        "to find a friend, you must be a friend",
        "helping others makes you happy",
    )


GUIDES = {
    "owl": (
        '"I can see in the dark," said the owl. "Follow me."',
        "The owl flew from tree to tree, and {name} walked behind {hhim}.",
    ),
    "firefly": (
        '"I have a little light," said the firefly. "Come with me."',
        "The light of the firefly danced over the path, and {name} followed it.",
    ),
    "deer": (
        '"I know every path here," said the deer. "Sit on my back."',
        "{name} sat on the back of the deer, and they ran through the trees.",
    ),
    "hunter": (
        '"I have a lamp," said the hunter. "I will take you home."',
        "The hunter held up the lamp and took {name} by the hand.",
    ),
}
LURES = {
    "a blue butterfly": "followed it",
    "a white rabbit": "ran after it",
    "sweet red berries": "picked more and more of them",
    "a trail of small flowers": "followed them",
}


def lost_way(t: _Teller) -> None:
    t.helper(*GUIDES)
    lure = t.choose(
        *(LURES if t.facts["kind"] != "rabbit" else [key for key in LURES if "rabbit" not in key])
    )
    t.know(lure=lure, follow=LURES[lure], wood=t.choose("forest", "woods"))
    t.say(
        "{name} always wanted to see what was in the big {wood}.",
        '"Never go into the {wood} alone," {his} {elder} always said.',
        "{name} loved to walk and look at everything.",
    )
    t.one_day("{name} saw {lure} near the {wood}")
    t.say(
        "{He} {follow}, deeper and deeper into the {wood}.",
        "{He} {follow} and did not look back.",
    )
    t.say(
        "Then it got dark, and {he} did not know the way home.",
        "When {he} stopped, the sun was gone. All the trees looked the same.",
        "Soon the sky was black, and {name} was lost.",
    )
    t.say(
        '"I am lost," {he} said and began to cry.',
        "{name} sat down under a tree. {He} was cold and afraid.",
        '"Is anybody there?" {he} called. The wind was the only answer.',
    )
    t.ask_why(t.choose("I am lost", "I cannot find my way home", "I want to go home"))
    speech, way = GUIDES[t.facts["h"]]
    t.say(speech)
    t.say(way)
    t.say(
        "At last, {he} saw the light of {his} own house.",
        "After a long time, they came out of the {wood}. There was the house!",
    )
    t.say(
        '{His} {elder} stood at the door. "There you are!" {ehe} cried and held {him} tight.',
        "{His} {elder} ran out and hugged {him}. Then they all had warm soup.",
    )
    t.say(
        '{name} waved to the {h}. "Thank you, my friend!" {he} called.',
        '"Thank you," said {name} to the {h}. "Good night," said the {h}.',
    )
    t.end(
        "it is wise to listen to those who love you",
        "home is the best place of all",
        "there is a light even in the dark",
    )


# fear -> the wish it stands against, who teaches, the lesson's steps, the deed
FEARS = {
    "the water": (
        "swim in the lake with the others",
        ("frog", "duck", "otter"),
        '"First put one foot into the water," said the {h}. "Then the other one."',
        "Step by step, {name} went into the cool water, and soon {he} could swim.",
    ),
    "the dark": (
        "sleep outside and look at the stars",
        ("owl", "firefly", "bat"),
        '"The dark is not empty," said the {h}. "Look up and count the lights."',
        "{name} looked up and counted the stars. One, two, three! The night was full of light.",
    ),
    "high places": (
        "stand on the top of the hill and see the sea",
        ("goat", "eagle", "sheep"),
        '"Do not look down," said the {h}. "Take one small step, and then one more."',
        "Step by step, {name} climbed up, and soon {he} could see the blue sea far away.",
    ),
    "loud thunder": (
        "sit at the window and watch the rain",
        ("cat", "dog", "parrot"),
        '"Thunder is just the drum of the clouds," said the {h}. "Sing with it!"',
        "When the thunder came, {name} sang as loud as {he} could. It was fun!",
    ),
}


def fearful_hero(t: _Teller) -> None:
    fear = t.choose(*FEARS)
    wish, teachers, advice, deed = FEARS[fear]
    t.helper(*teachers)
    t.know(fear=fear, wish=wish)
    t.say(
        "{name} was not afraid of many things, but {he} was afraid of {fear}.",
        "But {name} had a secret. {He} was afraid of {fear}.",
        "There was one thing {name} did not like at all. It was {fear}.",
    )
    t.say(
        "{He} wished {he} could {wish}.",
        "And yet {he} wanted so much to {wish}.",
        "Still, {name} dreamed that one day {he} would {wish}.",
    )
    t.one_day("{name} sat alone and looked sad")
    t.ask_why(t.choose("I am afraid of {fear}", "I want to {wish}, but I am afraid"))
    t.say(
        '"Once I was afraid of {fear} too," said the {h}. "I will show you what to do."',
        '"Everyone is afraid of something," said the {h}. "Come, I will help you."',
        '"Being brave means to try," said the {h}.',
    )
    t.say(advice)
    t.say(
        "{name} was scared, but {he} tried.",
        "{name} took a deep breath.",
        "{name} held on to the {h} and began.",
    )
    t.say(deed)
    t.say('"I did it!" {he} cried.', '"Look at me! I am not afraid!" {he} called.')
    t.say(
        'The {h} laughed. "I knew you could do it," {hhe} said.',
        '"You are very brave," said the {h}.',
    )
    t.say(
        "After that, {name} was never afraid of {fear} again.",
        "Now {name} can {wish} every day.",
    )
    t.end(
        "being brave means to try", "small steps can take you far", "fear gets small when you have a friend"
    )


HURTS = {
    "bird": "a broken wing",
    "fox": "a hurt leg",
    "deer": "a hurt leg",
    "squirrel": "a hurt foot",
    "duck": "a broken wing",
    "owl": "a broken wing",
    "rabbit": "a hurt foot",
}


def hurt_animal(t: _Teller) -> None:
    t.place()
    t.helper(*HURTS)
    t.know(
        hurt=HURTS[t.facts["h"]],
        gift=t.choose("a shiny stone", "a golden ring", "a red flower", "a sweet berry", "a white feather"),
    )
    t.know(part=t.facts["hurt"].split()[-1])
    t.say(
        "{name} wanted to take care of someone.",
        "{name} loved all animals, big and small.",
        "{name} dreamed of having a little friend at home.",
    )
    t.one_day("{name} walked through {place}")
    t.say(
        "Under the {spot}, {he} found {hwho_a} with {hurt}.",
        "Next to the {spot} lay {hwho_a} with {hurt}.",
    )
    t.say(
        '"It hurts so much," said the {h}. "Poor {h}!" said {name}. "I will take you home."',
        '"Please help me," said the {h}. "I cannot go on." {name} picked {hhim} up with gentle hands.',
    )
    t.say(
        "At home, {his} {elder} put a soft cloth around the {part}.",
        '"We must keep the {part} warm," said {his} {elder}, and {ehe} made a bed of soft hay.',
    )
    t.say(
        "Every day, {name} gave the {h} water and {food}.",
        "Day after day, {name} sat next to the {h} and told {hhim} stories.",
        "{name} brought {food} every morning and a warm blanket every night.",
    )
    t.say(
        "After many days, the {part} was well again.",
        "The {part} got better and better, and at last the {h} was well.",
    )
    t.say(
        '"Now I must go home," said the {h}. {name} was sad, but {he} opened the door.',
        "{name} opened the door and let the {h} go. {He} cried a little.",
    )
    t.say(
        "When spring came, someone knocked at the window. It was the {h}, with {gift} for {name}!",
        "Some weeks later, the {h} came back and brought {him} {gift}.",
    )
    t.say(
        '"You took care of me," said the {h}. "I will never forget you."',
        '"This is for you, my friend," said the {h}.',
    )
    t.end("kindness always comes back", "love means to let go", "even small hands can do great things")


# what two want -> how the quarrel goes, what the wise one says, how it ends
SHARED = {
    "apple": ("cut it into two parts", "They cut the apple into two parts, and each part was sweet."),
    "cookie": ("break it into two parts", "They broke the cookie into two parts, and both ate with joy."),
    "drum": ("let one play and one sing", "{name} played the drum, and {hname} sang. It was a lovely song."),
    "boat": ("sit in it together", "They sat in the boat together and sailed across the pond."),
    "swing": (
        "take turns",
        "First {hname} sat on the swing, and then {name}. They pushed each other high into the sky.",
    ),
    "sled": ("ride on it together", "They rode down the hill together and laughed all the way."),
    "ball": (
        "throw it to each other",
        "{name} threw the ball to {hname}, and {hname} threw it back. It was much more fun.",
    ),
}


def share(t: _Teller) -> None:
    t.place()
    o = t.choose(*SHARED)
    advice, end = SHARED[o]
    t.helper("rabbit", "fox", "squirrel", "hedgehog", "bear", "mouse", "duck")
    t.know(o=o, obj=f"{t.choose('red', 'big', 'lovely', 'little', 'yellow')} {o}", advice=advice)
    t.know(hname=t.random.choice([n for n in FRIEND_NAMES if n != t.facts["name"]]))
    t.know(wise=t.choose("turtle", "owl", "goose", "donkey"))
    t.say(
        "{name} had a good friend, {h_a} named {hname}.",
        "{His} best friend was {h_a} named {hname}.",
        "Every day {he} played with {hname}, the {h}.",
    )
    t.one_day("{name} and {hname} found {obj_a} {at} {place}")
    t.say('"It is mine!" said {name}. "I saw it first!"', '"I want it!" cried {name}. "Give it to me!"')
    t.say(
        '"No, it is mine!" said {hname}. "I was here first!"',
        '"No, I want it!" {hname} cried and held it tight.',
    )
    t.say(
        "They pulled and pushed and got very angry.",
        "They did not want to be friends anymore.",
        "{name} turned {his} back, and {hname} began to cry.",
    )
    t.know(wwho=f"old {t.facts['wise']}")
    t.say(
        "{Wwho_a} heard the noise and came over.",
        "{Wwho_a} sat near the {spot} and shook its head.",
    )
    t.say(
        '"Why do you fight?" asked the {wise}. '
        '"There is one {o}, and there are two of you. You can {advice}."',
        '"My dear friends," said the {wise}, "why do you not {advice}?"',
    )
    t.say(
        '{name} looked at {hname}. "I am sorry," {he} said. "Me too," said {hname}.',
        '"That is a good idea," said {name}. "I am sorry, {hname}."',
    )
    t.say(end)
    t.say("The old {wise} smiled and went on.", "The two friends thanked the {wise}.")
    t.end(
        "sharing makes everything better",
        "a friend is worth more than {o_a}".format_map(t.facts),
        "it is good to say sorry",
    )


def race(t: _Teller) -> None:
    t.helper("rabbit", "fox", "pony", "puppy", "lamb", "goat")
    t.know(hname=t.random.choice([n for n in FRIEND_NAMES if n != t.facts["name"]]))
    t.know(
        prize=t.choose("a golden cup", "a big cake", "a red ribbon", "a basket of apples"),
        goal=t.choose("the old bridge", "the big oak tree", "the mill", "the lake"),
        fall=t.choose("fell over a stone", "fell into a ditch", "stepped on a thorn"),
    )
    t.say(
        "{name} could run very fast, and {he} wanted to win the big race.",
        "There was a race every year, and {name} dreamed of winning it.",
    )
    t.say("The prize was {prize}.", "The winner would get {prize}.")
    t.maybe("{name} ran up and down the road every morning.")
    t.one_day("all the runners stood in a line")
    t.say('"One, two, three, go!" called {his} {elder}.', '"Run to {goal}!" called {his} {elder}. "Go!"')
    t.say(
        "{name} ran like the wind. Soon {he} was first, and {hname} the {h} was right behind {him}.",
        "{name} and {hname} the {h} were faster than all the others.",
    )
    t.say("Suddenly {hname} {fall}.", "But near {goal}, {hname} {fall}.")
    t.say('"Ouch! My foot!" cried {hname}.', '"Help!" cried {hname}. "I cannot run anymore!"')
    t.say(
        "{name} looked at {goal}. It was so near! But then {he} turned around.",
        '"I could win now," thought {name}. But {he} stopped and went back.',
    )
    t.say(
        '"Hold on to me," {he} said, and {he} helped {hname} to stand up.',
        '{He} gave {hname} {his} hand. "We will go together," {he} said.',
    )
    t.say(
        "Slowly they walked to {goal}. They were the last ones.",
        "All the others ran past them, and they came in last.",
    )
    t.say(
        'But everyone clapped. "{name} has the biggest heart!" they called, and {name} got {prize} too.',
        'But {his} {elder} smiled. "You did not win the race, but you won a friend," {ehe} said.',
    )
    t.say(
        '"Thank you for coming back," said {hname}.',
        "{hname} hugged {name} and did not let go for a long time.",
    )
    t.end(
        "a friend is worth more than a prize",
        "being kind is better than being first",
        "winning is not everything",
    )


PLANTS = {
    "sunflower": "A huge sunflower stood in the garden and looked at the sun.",
    "pumpkin": "There was a pumpkin, so big that {name} could sit in it.",
    "apple tree": "A small apple tree grew there, with one red apple on it.",
    "rose": "There was a rose, as red as the evening sky.",
    "bean": "A bean plant climbed up to the roof of the house.",
}


def plant(t: _Teller) -> None:
    growth = t.choose(*PLANTS)
    t.helper("snail", "worm", "turtle", "bee", "sparrow")
    t.know(plant=growth, himself="herself" if t.facts["he"] == "she" else "himself")
    t.say(
        "{name} wanted to grow something all by {himself}.",
        "{name} wished for a garden of {his} own.",
    )
    t.one_day("{his} {elder} gave {him} a tiny seed")
    t.say(
        '"Put it into the ground and be patient," said {his} {elder}.',
        '"There is {plant_a} asleep in it," said {his} {elder}.',
    )
    t.say(
        "{name} dug a hole, put the seed into it and gave it water.",
        "{name} ran into the garden and put the seed into the ground.",
    )
    t.say(
        "{He} waited one day, two days, three days. Nothing happened.",
        "Every morning {he} looked at the ground, but there was nothing to see.",
    )
    t.say('"My seed does not grow!" {he} cried.', '"Maybe my seed is dead," {he} said.')
    t.ask_why(t.choose("My seed does not grow", "I wait and wait, and nothing happens"))
    t.say(
        '"Good things need time," said the {h}. "Give it water and sun, and wait."',
        '"I know about slow things," said the {h}. "Sing to it, and do not give up."'
        if t.facts["h"] in ("snail", "worm", "turtle")
        else '"I have seen many gardens," said the {h}. "Give it water every day, and do not give up."',
    )
    t.say(
        "So {name} brought water every day and sang a little song.",
        "{name} listened to the {h}. {He} gave the seed water and waited.",
    )
    t.say(
        "Then one morning, there was a tiny green leaf!",
        "After a week, something small and green came out of the ground.",
    )
    t.say("It grew and grew.", "It grew higher day by day.")
    t.say(PLANTS[growth])
    t.say(
        '"You did it!" said the {h}. "We did it together," said {name}.',
        "{name} danced around it, and the {h} was happy too.",
        '"This is the best garden in the world," said {his} {elder}.',
    )
    t.end("good things need time", "you should never give up", "love makes everything grow")


PLOTS: tuple[Callable[[_Teller], None], ...] = (
    lost_thing,
    stuck_thing,
    make_thing,
    lonely_hero,
    lost_way,
    fearful_hero,
    hurt_animal,
    share,
    race,
    plant,
)


def _tell(number: int) -> _Teller:
    teller = _Teller(number)
    plot = teller.random.choice(PLOTS)
    teller.introduce()
    plot(teller)
    return teller


def story(number: int) -> str:
    """The story of this number: one line of ASCII text, the same for ever."""
    return _tell(number).text()


def stories(first: int, count: int) -> Iterator[str]:
    """Stories first, first + 1, …, as many as `count`."""
    return (story(number) for number in range(first, first + count))


def hero_name(number: int) -> str:
    """The name of the hero of a story."""
    return _tell(number).facts["name"]


def words(text: str) -> list[str]:
    """The words of a text, without punctuation."""
    return re.findall(r"[A-Za-z]+", text)


def vocabulary() -> frozenset[str]:
    """Every word that the grammar uses (found by listening to it for a while), but not the invented names."""
    known: set[str] = set()
    for number in range(6000):
        teller = _tell(number)
        told = set(words(teller.text()))
        told.discard(teller.facts["name"])
        known |= told
    return frozenset(known | set(GIRL_NAMES) | set(BOY_NAMES))
