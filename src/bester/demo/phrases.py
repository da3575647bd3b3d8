"""Phrase books for two languages, and the translation of texts with them.

The longest known phrase wins, then the single word; unknown words stay as they are.
"""

from __future__ import annotations

import re
import unicodedata

_PIECE = re.compile(r"['’]?\w+(?:-\w+)*")


class PhraseBook:
    """The phrases and words of a language, with their English.

    Args:
        lines: one ``foreign = English`` per line.
    """

    def __init__(self, lines: str) -> None:
        self._english: dict[tuple[str, ...], str] = {}
        for line in lines.strip().splitlines():
            foreign, _, english = line.partition("=")
            self._english[tuple(_folded(word) for word in _PIECE.findall(foreign))] = english.strip()
        self._longest = max(len(words) for words in self._english)

    def __len__(self) -> int:
        return len(self._english)

    def to_english(self, text: str) -> str:
        """Returns a text in English, as far as the book knows it; its punctuation is kept."""
        text = unicodedata.normalize("NFC", text)
        found = list(_PIECE.finditer(text))
        parts: list[str] = []
        end = index = 0
        while index < len(found):
            length, english = self._longest_match(text, found[index:])
            start = found[index].start()
            parts += (text[end:start], _like(found[index].group(), english))
            end = found[index + length - 1].end()
            index += length
        return "".join(parts) + text[end:]

    def _longest_match(self, text: str, ahead: list[re.Match[str]]) -> tuple[int, str]:
        words: list[str] = []
        best = (1, ahead[0].group())
        for index, piece in enumerate(ahead[: self._longest]):
            if index and text[ahead[index - 1].end() : piece.start()].strip():
                break  # a phrase does not continue after a comma
            words.append(_folded(piece.group()))
            english = self._english.get(tuple(words))
            if english is not None:
                best = (index + 1, english)
        return best


def _folded(word: str) -> str:
    return unicodedata.normalize("NFC", word).casefold().replace("’", "'")


def _like(original: str, english: str) -> str:
    """Returns the English, with a capital if the original begins with one."""
    return english[:1].upper() + english[1:] if original[:1].isupper() else english


AFRIKAANS = PhraseBook(
    """
    goeie môre = good morning
    goeie middag = good afternoon
    goeie naand = good evening
    lekker slaap = sleep well
    hoe gaan dit = how is it going
    hoe gaan dit met jou = how are you
    dit gaan goed met my = I am well
    baie dankie = thank you very much
    dankie = thank you
    asseblief = please
    ek verstaan nie = I do not understand
    ek weet nie = I do not know
    ek is jammer = I am sorry
    ek is honger = I am hungry
    ek is dors = I am thirsty
    ek is lief vir jou = I love you
    ek kom môre = I am coming tomorrow
    ek woon in = I live in
    ek praat = I speak
    praat jy engels = do you speak English
    wat is jou naam = what is your name
    my naam is = my name is
    waar is = where is
    waar woon jy = where do you live
    hoeveel kos dit = how much does it cost
    hoe laat is dit = what time is it
    die koffie is gereed = the coffee is ready
    kom ons gaan = let us go
    veels geluk = congratulations
    tot siens = goodbye
    tot later = see you later
    sien jou môre = see you tomorrow
    ja = yes
    nee = no
    en = and
    of = or
    maar = but
    die = the
    'n = a
    is = is
    kom = comes
    gaan = goes
    vandag = today
    môre = tomorrow
    gister = yesterday
    nou = now
    hier = here
    daar = there
    ek = I
    jy = you
    hy = he
    sy = she
    ons = we
    dit = it
    vriend = friend
    huis = house
    water = water
    brood = bread
    koffie = coffee
    tee = tea
    trein = train
    stasie = station
    mark = market
    met = with
    vir = for
    van = of
    om = at
    groot = big
    klein = small
    goed = good
    baie = very
    """
)

PORTUGUESE = PhraseBook(
    """
    bom dia = good morning
    boa tarde = good afternoon
    boa noite = good night
    como está = how are you
    como estás = how are you
    estou bem = I am well
    tudo bem = all is well
    muito obrigado = thank you very much
    muito obrigada = thank you very much
    obrigado = thank you
    obrigada = thank you
    de nada = you are welcome
    por favor = please
    não entendo = I do not understand
    não sei = I do not know
    desculpe = sorry
    tenho fome = I am hungry
    tenho sede = I am thirsty
    tenho saudades tuas = I miss you
    eu moro em = I live in
    eu falo = I speak
    fala inglês = do you speak English
    como se chama = what is your name
    o meu nome é = my name is
    onde fica = where is
    onde mora = where do you live
    quanto custa = how much does it cost
    que horas são = what time is it
    o café está pronto = the coffee is ready
    vamos embora = let us go
    boa viagem = have a good trip
    feliz aniversário = happy birthday
    parabéns = congratulations
    adeus = goodbye
    até logo = see you later
    até amanhã = see you tomorrow
    sim = yes
    não = no
    e = and
    ou = or
    mas = but
    o = the
    a = the
    os = the
    as = the
    um = a
    uma = a
    é = is
    está = is
    chega = arrives
    vem = comes
    hoje = today
    amanhã = tomorrow
    ontem = yesterday
    agora = now
    aqui = here
    ali = there
    eu = I
    você = you
    ele = he
    ela = she
    nós = we
    amigo = friend
    amiga = friend
    casa = house
    água = water
    pão = bread
    café = coffee
    chá = tea
    comboio = train
    estação = station
    mercado = market
    com = with
    para = for
    de = of
    em = in
    grande = big
    pequeno = small
    bom = good
    muito = very
    """
)
