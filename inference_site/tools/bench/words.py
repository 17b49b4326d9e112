"""Words that are one token each (with the space before them) in the usual BPE vocabularies.

Prompts consist of them, so that a length in tokens can be met without a tokeniser. The server's
``usage`` decides: reports show requested and counted length.
"""

_TEXT = """
about above access account across action active address adult advice age air allow almost
alone along already also always amount animal another answer appear area around art article
ask attack author away back base basic beautiful become before begin behind believe below
best better between big bird blood blue board body book born both box boy brain break bring
brother brown build business buy call camera car care case catch cause cell center central
century certain chance change character check child choice church circle city claim class
clear close cloud coast cold collect college color come common company compare computer
consider contact control cook cool copy corner cost count country couple course cover create
cross culture current customer cut dark data date daughter day dead deal death decide deep
degree design desk detail develop different difficult direct discover discuss disease doctor
door down draw dream dress drink drive drop dry during each early earth east easy eat edge
education effect effort eight else email end energy engine enjoy enough enter entire
environment equal error escape even evening event ever every evidence exact example except
exercise expect experience explain express eye face fact fail fall family famous far farm
fast father fear feature feel few field fight figure fill film final find fine finish fire
firm first fish five fix floor flow fly follow food foot force foreign forest forget form
forward found four frame free fresh friend front fruit full function fund future game garden
gas general get girl give glass goal gold good government grass gray great green ground group
grow growth guess guide hair half hall hand happen happy hard head health hear heart heat
heavy height help here high hill history hold hole home hope horse hospital hot hotel hour
house human hundred idea image impact improve include increase indeed industry inside
instead interest issue item job join journey judge jump keep key kid kind king kitchen know
knowledge lady lake land language large last late laugh law lay lead learn least leave left
leg legal less letter level library life lift light like limit line list listen little live
local long look lose loss lot love low machine main major make man manage many map mark
market material matter mean measure media medical meet member memory mention message metal
method middle might mile milk mind minute miss model modern moment money month moon morning
most mother mountain mouth move movie much music name narrow nation nature near neck need
network never new news next nice night nine noise none north nose note nothing notice number
object ocean offer office often oil old once open option orange order other outside own page
pain paint pair paper parent park part party pass past path pattern pay peace people perfect
period person phone photo phrase pick picture piece place plan plane plant play please point
policy poor popular position power practice present press pretty price private problem
process produce product program project protect proud public pull purpose push put quality
question quick quiet quite race radio rain raise range rate reach read ready real reason
receive record red reduce region relate remain remember remove repeat reply report require
research rest result return rich ride right ring rise risk river road rock role roof room
root round rule run safe sail salt same sand save say scale scene school science sea season
seat second secret section see seed seek seem sell send sense series serious serve set seven
shade shape share sharp ship shop short shoulder show side sign silent silver similar simple
sing sister sit six size skill skin sky sleep slow small smile snow social soft soil some son
song soon sort sound source south space speak special speech speed spend spirit spot spread
spring square staff stage stand star start state station stay step still stock stone stop
store storm story straight strange street strong student study style subject success such
sudden sugar suggest summer sun support sure surface sweet swim system table take talk tall
task taste teach team tell ten term test text thank thick thing think third thought thousand
three throw tie time tiny title today together tomorrow tone tool top total touch toward town
track trade train travel treat tree trip true trust try turn twelve twenty type uncle under
unit until use usual valley value various very view village visit voice wait walk wall war
warm wash watch water wave way wear weather week weight west wheel while white wide wife wild
will wind window winter wish woman wonder wood word work world write wrong year yellow young
"""

WORDS: tuple[str, ...] = tuple(_TEXT.split())
"""About 730 lower-case English words: ten of them drawn at random carry some 95 bits."""
