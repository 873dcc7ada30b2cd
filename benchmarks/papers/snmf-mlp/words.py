"""Twenty concepts of twenty words each (twelve months), and carrier sentences that say nothing of any of them."""

from __future__ import annotations

import numpy as np

CONCEPTS = {
    "animals": "dog cat horse cow sheep pig goat rabbit lion tiger bear wolf fox deer monkey elephant mouse camel donkey zebra",
    "birds": "eagle crow sparrow owl pigeon duck goose swan hawk robin parrot falcon heron gull "
    "raven finch stork crane turkey dove",
    "body parts": "arm leg knee elbow shoulder hand foot finger thumb ankle wrist neck chin nose ear eye mouth hip spine heel",
    "buildings": "house church castle tower palace temple barn hotel school museum library hospital factory theater "
    "stadium cottage mansion warehouse cathedral chapel",
    "clothes": "shirt coat dress hat shoe sock glove scarf jacket skirt belt boot sweater trousers blouse "
    "vest tie cap robe apron",
    "colours": "red blue green yellow purple orange pink brown black white gray violet gold silver crimson scarlet turquoise "
    "beige maroon indigo",
    "countries": "France Germany Italy Spain Japan China India Brazil Canada Mexico Egypt Russia Sweden Norway Greece "
    "Turkey Poland Kenya Chile Peru",
    "drinks": "water milk tea coffee beer wine juice whiskey vodka rum cider lemonade soda champagne brandy gin cocoa ale "
    "espresso punch",
    "emotions": "anger fear joy sadness grief pride shame guilt envy hope despair jealousy happiness rage sorrow delight "
    "disgust anxiety regret love",
    "family": "mother father sister brother uncle aunt cousin grandmother grandfather nephew niece daughter son wife husband "
    "parent twin stepfather grandson widow",
    "fruit": "apple pear banana cherry grape peach plum lemon mango melon strawberry raspberry apricot pineapple fig lime "
    "kiwi papaya coconut blueberry",
    "instruments": "piano violin guitar flute drum trumpet cello harp clarinet saxophone banjo organ trombone oboe harmonica "
    "accordion tuba fiddle mandolin bassoon",
    "materials": "wood iron steel glass plastic copper cotton leather stone paper rubber brass concrete silk wool clay "
    "marble aluminum bronze tin",
    "months": "January February March April May June July August September October November December",
    "numbers": "three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen twenty thirty forty",
    "occupations": "doctor lawyer teacher nurse farmer baker plumber carpenter engineer journalist soldier pilot butcher "
    "tailor dentist chef architect librarian accountant electrician",
    "sports": "football tennis golf hockey baseball basketball cricket rugby swimming boxing wrestling skiing volleyball "
    "cycling rowing fencing archery karate badminton gymnastics",
    "tools": "hammer saw drill wrench screwdriver chisel pliers shovel rake axe ladder spade file clamp hoe sickle mallet "
    "crowbar lathe anvil",
    "vehicles": "car truck bus train bicycle motorcycle boat ship plane helicopter tram van taxi tractor ferry submarine "
    "wagon canoe scooter sled",
    "weather": "rain snow wind storm fog hail thunder lightning frost sleet drizzle hurricane tornado blizzard mist "
    "breeze drought heat cloud sunshine",
}  # fmt: skip
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
CARRIERS = (
    "In the end they talked about {}, {} and {} for a while.",
    "The list on the table said {}, {} and {}, nothing more.",
    "She wrote down {}, then {}, and at last {}.",
    "It was not {} or {} but {} that he had in mind.",
    "When I think of {} I also think of {} and {}.",
    "Nobody there had asked for {}, {} or {} before.",
    "The first page was about {}, the second about {}, the third about {}.",
    "We could not decide between {}, {} and {} that time.",
    "He kept saying {}, {}, {} again and again.",
    "My notes mention {} once, {} twice and {} not at all.",
)
ALONE = (
    "They were talking about {} all evening.",
    "The word on the sign was {} in large letters.",
    "I had never thought of {} in that way.",
    "The next page tells you more about {} than you need.",
    "Everybody there remembered {} very well.",
    "What they wanted was {} and nothing else.",
    "In his letter {} was mentioned twice.",
    "If it has to be {} then so be it.",
)


def sentences(n: int, held: int, seed: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]], dict[str, list[str]]]:
    """`n` sentences to fit on and `held` others for each concept, each of three words; the others use words, and carriers, that
    those to fit on do not. Also the words that were held out."""
    rng = np.random.default_rng([seed, 0])
    fit, test, words = [], [], {}
    carriers = rng.permutation(len(CARRIERS))
    for name, told in CONCEPTS.items():
        given = rng.permutation(told.split()).tolist()
        cut = int(np.ceil(0.65 * len(given)))
        words[name] = given[cut:]
        for out, count, part, those in ((fit, n, given[:cut], carriers[:7]), (test, held, given[cut:], carriers[7:])):
            for _ in range(count):
                out.append((CARRIERS[rng.choice(those)].format(*rng.choice(part, 3, replace=False)), name))
    return fit, test, words
