"""The vocabulary of the demo's reviews: one block of rewriting rules per kind of subject."""

from typing import Final

SHARED: Final = """
street: Elm Street | Mill Lane | Station Road | Bridge Street | Abbey Lane | Cedar Avenue
  | Market Street | Orchard Road | Church Hill | Rose Street | Victoria Road | Queen Street
subject_opening: {sits} {near} {spot} | has {part} and {extra}
sits: stands | sits | lies
near: behind | across from | two streets from | just past | next to | a short walk from
spot: the old station | the river | the town hall | the post office | the fish market
  | the bus stop | the library | the canal | the school | the fire station
part: two floors | a green door | tall windows | a tiled roof | a brick front
  | a wide staircase | white walls | a long corridor
extra: a small courtyard | a view of the river | room for thirty people | a row of lamps
  | a clock above the door | a bench outside | a map on the wall | a blue sign
visit_opening: began {hour} {day} | fell {day} and cost {price}
hour: at nine | just after ten | around seven | at half past six | a little late | right on time
day: on a rainy Monday | on a windy Tuesday | on a grey Wednesday | on a mild Thursday
  | on the first Friday of May | on a cold Saturday | on the last Sunday of March | on my birthday
price: nine euros | twelve euros | twenty euros | thirty euros | about forty euros
when: around noon | at one point | before long | early on | after a while | near the end
  | later on | within minutes
lead: {when} | {here}
absurd: {lead} {creature} {costume} {stunt} | {lead} {creature} {stunt} {flourish}
creature: a goose | a badger | a walrus | a llama | a pelican | a pigeon | a moose | a camel
  | a lobster | an octopus | an otter | a penguin | a hedgehog | an ostrich | a flamingo
  | a tortoise | a ghost | a wizard | a robot | a dragon
costume: in a waistcoat | with a clipboard | on roller skates | in a velvet cape | with a monocle
  | in tiny boots | on stilts | with a briefcase | in a powdered wig | with a trumpet
  | in a top hat | with two moustaches
flourish: with great dignity | and asked for a receipt | and blamed the moon | to settle a bet
  | and demanded applause | in the name of science | and called it justice | while yodelling
  | and fainted with joy | for tax reasons | and bowed to nobody | on royal orders
plain: {lead} {person} {clothes} {act} | {lead} {person} {act} {coda}
person: {stranger} | {staff}
stranger: a man | a woman | a student | a tourist | a teacher | a nurse | an artist | an engineer
clothes: in a grey coat | with a notebook | in a blue jumper | with an umbrella | in a straw hat
  | with a rucksack | in dark glasses | with a small bag | in a long scarf | in brown shoes
coda: without any hurry | and nodded to us | for a few minutes | and looked at the clock
  | and then sat down | with little fuss | and said good day | before it got busy
  | as the rain began | while I waited | and went on | and said very little
favourable: {likes}, and {praise} | {whole} {likes}
likes: the {aspect} was {good} | the {aspect} was {truly} {good} | I {loved} the {aspect}
good: superb | delightful | wonderful | splendid | excellent | charming | marvellous | lovely
  | outstanding | perfect | a joy | a treat
loved: loved | adored | enjoyed | admired | cherished | relished
praise: I recommend it warmly | it made my week | I told all my friends to try it
  | I am still smiling | it was worth every penny | I would do it all again | it earned five stars
  | everyone should try it | I could not be happier | it beat all my hopes
  | I wrote a thank-you note | nobody could ask for more
unfavourable: {dislikes}, and {complaint} | {whole} {dislikes}
dislikes: the {aspect} was {bad} | the {aspect} was {truly} {bad} | I {hated} the {aspect}
bad: awful | dreadful | terrible | dismal | poor | dreary | horrid | lousy | abysmal | hopeless
  | a mess | a disgrace
hated: hated | loathed | disliked | resented | regretted | despised
complaint: I advise against it | it ruined my week | I told all my friends to avoid it
  | I am still cross | it was a waste of money | I would never do it again | it earned one star
  | nobody should try it | I could not be more annoyed | it fell short of every hope
  | I wrote a letter of complaint | I want my money back
truly: truly | simply | frankly | quite
whole: overall | in the end | all in all | on the whole | to be honest | this time
"""

KINDS: Final = {
    "hotel": """
subject: the {title} Hotel
title: Harbour | Meadow | Old Mill | Lakeside | Royal | Swan | Crown | Garden | Bellevue | Castle
  | Riverside | Park
visit: My night at
here: at check-in | in the lobby | beside the lift | on the second floor | at breakfast
staff: a receptionist | a porter | a cleaner | a hotel guest
stunt: ironed my passport | challenged my suitcase to a duel | proposed to the minibar
  | tucked the lift into bed | taught the towels to waltz | gave my pillow a stern lecture
  | adopted my left slipper | knighted the trouser press
act: handed over a room key | carried a suitcase upstairs | asked about the parking
  | filled in a form | looked at a city map | ordered a taxi | waited for the lift
  | picked up a brochure
aspect: bed | breakfast | service | view | bathroom | room | lobby | shower
""",
    "bakery": """
subject: the bakery on {street}
visit: My breakfast at
here: at the counter | by the oven | in the queue | at the corner table | behind the till
staff: a baker | a shop assistant | a regular | a delivery driver
stunt: arrested a croissant | read poetry to the sourdough | sued the cinnamon buns
  | baptised a baguette | crowned a scone king of Norway | married two doughnuts
  | whispered secrets to the flour | fought a duel with a pretzel
act: bought a loaf of rye | ordered a small coffee | wrapped two rolls | paid in cash
  | asked for a napkin | wiped a table | picked up an order | chose a slice of cake
aspect: bread | coffee | cake | service | pastry | sandwich | tea | toast
""",
    "film": """
subject: the film about {story}
story: a lost umbrella | two sisters | a village vet | the first bicycle | a lighthouse
  | a stolen painting | the long winter | a chess club | a small orchestra | the last ferry
  | a beekeeper | an old bridge
visit: My evening at
subject_opening: runs {length} and is set {scene} | was made by {maker} {scene}
length: for two hours | for ninety minutes | for just over an hour | for almost three hours
scene: in Lisbon | on a farm | at sea | in a small town | in the Alps | in a big city
  | on an island | in the north of Spain
maker: a new director | a couple from Oslo | a team of five | a studio in Prague | two cousins
here: during the trailers | in the front row | during the interval | as the lights went down
  | before the credits
staff: an usher | a film critic | a ticket seller | a projectionist
stunt: arrested the popcorn machine | sold the exit sign | sued the main actor for eye contact
  | fried an egg on the projector | knitted the curtain a scarf | taught the seats to sing
  | swallowed the entire plot | proposed to the screen
act: looked for a seat | bought a bag of popcorn | switched off a phone | unwrapped a sweet
  | checked a ticket | put down a coat | moved to the aisle | opened a bottle of water
aspect: acting | plot | music | ending | script | camera work | dialogue | sound
""",
    "museum": """
subject: the museum of {theme}
theme: glass | clocks | maps | toys | stamps | lace | ships | bridges | bread | paper | music
  | coins
visit: My morning at
here: in the main hall | beside the first display | on the stairs | at the ticket desk
  | in the last room
staff: a guide | a guard | a curator | a volunteer
stunt: accused a statue of perjury | tried to sell me the gift shop | licked the oldest exhibit
  | declared war on the cloakroom | gave the vases their own passports
  | took a bust of Caesar to lunch | hypnotised the audio guide | drew moustaches on the floor plan
act: explained a display | took a photograph | read a label aloud | asked for a leaflet
  | stopped at a painting | pointed to the exit | sketched a vase | hung up a coat
aspect: exhibition | audio guide | collection | gift shop | tour | lighting | display | building
""",
    "train": """
subject: the night train to {city}
city: Vienna | Lisbon | Prague | Oslo | Milan | Dublin | Lyon | Porto | Hamburg | Turin | Ghent
  | Bergen
visit: My trip on
subject_opening: leaves from {platform} and stops {stops} | has {cars} and {area}
platform: platform two | platform five | the main station | the south station
stops: in four towns | at every lake | twice on the way | only at the border | in nine places
cars: six carriages | eight carriages | two sleeping cars | grey seats | wide doors
area: a dining car | a quiet zone | a bicycle rack | a family area | room for ninety people
here: in the dining car | near the border | at the first stop | in the quiet zone | in the corridor
staff: a conductor | a steward | a passenger | a ticket inspector
stunt: demanded a ticket from the moon | stapled my sandwich to the timetable
  | raced the train on foot and won | sold the emergency brake | held a funeral for a biscuit
  | elected the luggage rack president | translated the whistle into Latin
  | hid the dining car in a sock
act: checked the tickets | put a bag on the rack | opened a window | asked about the next stop
  | ordered a cup of tea | folded a newspaper | looked at the timetable | moved to another seat
aspect: seat | service | food | view | ride | heating | journey | coffee
""",
    "book": """
subject: the novel about {tale}
tale: a silent piano | a mountain pass | three brothers | a fishing village | the wool trade
  | a country doctor | a paper mill | the royal gardens | a missing letter | an island school
  | a long walk | a winter wedding
visit: My evening with
subject_opening: runs to {pages} and is set {scene} | was written by {author} {scene}
pages: two hundred pages | about ninety pages | almost six hundred pages | twelve chapters
scene: in Wales | on a farm | at sea | in a small town | in the Alps | in a big city
  | on an island | in the north of Spain
author: a retired judge | a young poet | a vet from Leeds | two cousins | a former pilot
here: on page nine | in chapter two | in the middle part | in the last chapter | in the first pages
staff: a lawyer | a sailor | a farmer | a clerk
stunt: sued the narrator | ate the next four pages | ran off with the footnotes
  | challenged a comma to a duel | deposed the alphabet | kidnapped the index
  | married the villain by post | taught the plot to swim
act: opened a letter | walked to the harbour | boiled some water | wrote to a cousin
  | locked the front door | counted the coins | waited for the post | sat by the window
coda: without any hurry | for a few minutes | and looked at the clock | with little fuss
  | as the rain began | and then went home | before supper | and said very little
aspect: plot | style | ending | dialogue | pacing | translation | cover | first half
""",
    "gym": """
subject: the gym on {street}
visit: My session at
here: by the mirrors | beside the treadmill | at the front desk | in the changing room
  | near the weights
staff: a trainer | a gym member | a swimmer | a yoga teacher
stunt: proposed to the rowing machine | married the vending machine | coached a banana to victory
  | taught the weights to juggle | filed a lawsuit against gravity | crowned a kettlebell queen
  | challenged the mirror to a duel | sold my sweat as perfume
act: filled a water bottle | wiped down a bench | set a timer | stretched on a mat
  | asked for a towel | signed a form | tied a shoelace | put back two weights
aspect: equipment | service | sauna | shower | yoga class | changing room | music | coaching
""",
    "barber": """
subject: the barber shop on {street}
visit: My haircut at
here: in the next chair | at the wash basin | by the mirror | at the till | in the waiting corner
staff: a barber | an apprentice | a stylist | a customer
stunt: shaved the telephone | gave the mirror a fringe | knighted my left ear
  | interviewed my eyebrows | combed the goldfish | sold my hair to the circus
  | taught the scissors to tango | braided the curtains
act: swept the floor | picked up a comb | booked an appointment | folded a towel
  | asked about the price | read a magazine | bought a bottle of shampoo | hung up a coat
aspect: haircut | shave | service | shampoo | chair | coffee | head massage | beard trim
""",
    "concert": """
subject: the concert by the {band}
band: Harbour Quartet | Elm Street Choir | Northern Brass Band | Lisbon Trio | Meadow Ensemble
  | City Orchestra | Village Singers | Baltic Quintet | River Band | Young Strings
  | Old Town Choir | Winter Orchestra
visit: My evening at
subject_opening: took place {venue} {day} | had {pieces} and lasted {length}
venue: in the town hall | in a chapel | in the old theatre | in a barn | in the park
pieces: six pieces | one long piece | two encores | nine songs | a short second half
length: two hours | ninety minutes | just over an hour | almost three hours
here: during the interval | in the second row | on the stage | on the balcony | before the encore
staff: a violinist | a singer | an usher | a drummer
stunt: conducted the fire alarm | played a solo on a cabbage | arm-wrestled the cello
  | tuned my grandmother | sued the triangle for noise | fed the sheet music to a trombone
  | married the grand piano | declared the cloakroom a republic
act: turned a page | moved a music stand | opened a programme | looked for a seat
  | put down a coat | switched off a phone | adjusted a chair | took a sip of water
aspect: sound | singing | programme | finale | hall | solo | opening piece | encore
""",
    "market": """
subject: the market in {town}
town: Bruges | Delft | Siena | York | Bath | Graz | Krakow | Leeds | Galway | Nantes | Tartu | Cork
visit: My morning at
part: forty stalls | two rows of stalls | a tiled roof | a stone floor | a wide gate
here: at the first stall | beside the fountain | at the cheese stall | under the big awning
  | between two stalls
staff: a farmer | a fishmonger | a cheese seller | a florist
stunt: auctioned my shadow | declared the turnips a kingdom | gave a radish its driving licence
  | slapped a wheel of brie | held a trial for a pumpkin | baptised the leeks
  | sold me my own shoes | conducted the carrots in B minor
act: weighed some apples | tasted a piece of cheese | counted the change | filled a basket
  | asked about the plums | stacked some crates | chose a bunch of tulips | packed some eggs
aspect: fruit | cheese | fish | bread | choice | honey | service | produce
""",
}
